"""Whether a bundle that is offered may be registered, by what its scan found."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shipway.bundles.scanning.bundle import is_remark
from shipway.core.bundles import MANIFEST_NAME, Manifest
from shipway.core.errors import DangerousArtifact, InvalidArtifact
from shipway.core.scans import Danger, ScanFinding, ScanReport

MOST_MANIFEST_BYTES = 64 * 1024 * 1024
_LISTED = 5
_NEXT_STEPS = {
    Danger.IMPORT: "Save the model without it; or, when you trust it, name it in `SHIPWAY_ALLOWED_IMPORTS`"
    " at the server: `package.module.Name`, separated by commas.",
    Danger.CALL: "Save the model again with its own framework; nothing that a framework saves does this.",
    Danger.UNREADABLE: "Save the model again, and package it anew.",
    Danger.ARCHIVE: "Save the model again with its own framework, which writes plain archives.",
    Danger.BOMB: "Save the model uncompressed, or split it.",
    Danger.OUTSIDE: "Put the data into the bundle: export the model with its weights in the same file.",
    Danger.OPERATOR: "Export the model with standard operators; or, when the server's ONNX Runtime has"
    " them, name their domain in `SHIPWAY_ALLOWED_ONNX_DOMAINS`.",
    Danger.NATIVE: "Leave it out of the bundle, and name its package in the model's requirements.",
}


def check_manifest_size(bundle: Path) -> None:
    """Passes when the manifest can be held in memory; one that is missing passes, too.

    Raises:
        InvalidArtifact: it is larger than any.
    """
    path = bundle / MANIFEST_NAME
    size = path.stat().st_size if path.is_file() else 0
    if size > MOST_MANIFEST_BYTES:
        raise InvalidArtifact(
            f"The bundle's `{MANIFEST_NAME}` has {size:,} bytes, more than any manifest.",
            next_step="Package the model again with `shipway package`.",
            file=MANIFEST_NAME,
        )


def accepted(manifest: Manifest, report: ScanReport) -> ScanReport:
    """The report, when the bundle may be registered with it.

    What is found in a bundle of Python code is a remark: its code may do all of that by itself.

    Raises:
        DangerousArtifact: with the first finding, and all of them in its details.
    """
    if report.findings and not is_remark(manifest.content):
        raise refusal(report.findings)
    return report


def refusal(findings: tuple[ScanFinding, ...]) -> DangerousArtifact:
    """The error that names what was found, and what to do about the first of it."""
    first = findings[0]
    lines = [f"`{one.file}`{_place(one)} {one.message}" for one in findings]
    more = "" if len(lines) == 1 else f" And {_more(lines)}"
    return DangerousArtifact(
        f"The bundle is not let in: {lines[0]}.{more}",
        next_step=_NEXT_STEPS[first.danger],
        file=first.file,
        offset=first.offset,
        name=first.name,
        findings=[msgspec.to_builtins(one) for one in findings],
    )


def _place(finding: ScanFinding) -> str:
    return "" if finding.offset is None else f" (byte {finding.offset})"


def _more(lines: list[str]) -> str:
    shown = "; ".join(lines[1:_LISTED])
    left = len(lines) - _LISTED
    return f"{shown}; {left} more." if left > 0 else f"{shown}."
