"""Scans bytes in this process, as the scanning process would."""

from __future__ import annotations

from pathlib import Path

from shipway.bundles.scanning.bundle import BundleScan, Rules
from shipway.core.bundles import Format
from shipway.core.scans import ScanFinding, ScanReport
from shipway.testing.bundles import write_bundle


def report_of(
    directory: Path, files: dict[str, bytes], *, rules: Rules | None = None, **content
) -> ScanReport:
    manifest = write_bundle(directory, files=files, **content)
    return BundleScan(directory, manifest, rules or Rules()).run()


def found_in(
    directory: Path,
    data: bytes,
    *,
    name: str = "model.joblib",
    rules: Rules | None = None,
    **content,
) -> tuple[ScanFinding, ...]:
    """What a scan finds in one file, the artifact of a scikit-learn bundle unless said otherwise."""
    content.setdefault("format", Format.SKLEARN)
    return report_of(directory, {f"model/{name}": data}, rules=rules, **content).findings
