"""Scans and signatures as people read them."""

from __future__ import annotations

from pathlib import Path

import typer

from shipway.cli.output import age_of, show_note, show_table
from shipway.client.trusting import Trust, Verified
from shipway.core.bundles import MANIFEST_NAME
from shipway.core.errors import InvalidSpec
from shipway.core.scans import ScanReport, Substance

_LOADS = {
    Substance.DATA: "data (nothing of it runs)",
    Substance.PICKLE: "a pickle (it may import what the scan's allow-list lets through)",
    Substance.PROGRAM: "a program in torch's own language",
    Substance.CODE: "Python code (it may do anything)",
}


def show_trust(trust: Trust) -> None:
    """What serving a version loads, what its scan found, and who signed it."""
    typer.echo("\nTrust")
    typer.echo(f"  loads   {_LOADS[trust.substance]}")
    scan = trust.scan
    if scan is None:
        typer.echo("  scan    none: it was registered before there were scans; register it again")
    else:
        found = f"{len(scan.findings)} remarks" if scan.findings else "nothing found"
        typer.echo(f"  scan    {found} in {scan.files} files, {age_of(scan.at)} ago")
        for finding in scan.findings:
            typer.echo(f"          {finding.line}")
    for signature in trust.signatures:
        key = signature.key_id[:19]
        typer.echo(f"  signed  {key}… by {signature.by}, {age_of(signature.at)} ago")
    if not trust.signatures:
        typer.echo("  signed  by nobody")


def show_signatures(trust: Trust) -> None:
    """Who signed a version, a line each."""
    rows = [(one.key_id, one.by, age_of(one.at)) for one in trust.signatures]
    show_table(["key", "by", "#age"], rows, title=f"{trust.version} ({trust.digest[:19]})")


def show_verified(found: Verified, trust: Trust) -> None:
    """That the bytes are whole, and whose they are."""
    typer.echo(f"{found.version}: {found.files} files are whole ({found.digest})")
    if found.key_id:
        at = f", {age_of(found.signed_at)} ago" if found.signed_at else ""
        typer.echo(f"signed by {found.key_id[:19]}… (handed in by {found.signed_by}{at})")
    elif trust.signatures:
        show_signatures(trust)
        show_note("Whether you trust these keys is not checked: name one with `--key PUBLIC.pem`.")
    else:
        show_note(f"Nobody signed it. Next: shipway sign {found.version} --key KEY.pem")


def is_bundle(text: str) -> bool:
    """Whether the text names a bundle's directory."""
    return (Path(text) / MANIFEST_NAME).is_file()


def checked_directory(directory: Path, key: Path | None) -> ScanReport:
    """What a scan says of a bundle here, once its bytes are known to be whole.

    Raises:
        BundleCorrupt: a file is missing or was changed.
        DangerousArtifact: registering it would be refused.
        InvalidSpec: a key is given; signatures are kept with registered versions.
    """
    from shipway.bundles.scanning.process import Scanner
    from shipway.bundles.screening import accepted
    from shipway.engines.bundle import verified_manifest

    if key is not None:
        raise InvalidSpec(
            "Signatures are kept with registered versions, not in a bundle's directory.",
            next_step="Verify the version: `shipway verify MODEL:VERSION --key PUBLIC.pem`.",
        )
    return accepted(verified_manifest(directory), Scanner().scanned(directory))


def show_report(report: ScanReport) -> None:
    """What a scan says."""
    typer.echo(f"{report.files} files are whole ({report.digest})")
    typer.echo(f"loads {_LOADS[report.substance]}")
    typer.echo(
        f"scan: {len(report.findings)} remarks" if report.findings else "scan: nothing found"
    )
    for finding in report.findings:
        typer.echo(f"  {finding.line}")
