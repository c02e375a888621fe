"""Versions and their manifests as people read them."""

from __future__ import annotations

from pathlib import Path

import typer

from shipway.cli.output import show_table, text_of
from shipway.client.answers import Version
from shipway.core.bundles import Content, Lineage, Manifest, ParityReport
from shipway.core.endpoints import Placement
from shipway.core.placement import placed
from shipway.core.profile import ColumnProfile, NumericProfile, Profile
from shipway.core.signature import Field

_BARS = "▁▂▃▄▅▆▇█"
_SHOWN_PACKAGES = 12


def show_packaged(manifest: Manifest, directory: Path) -> None:
    """What packaging made, with its parity report."""
    content = manifest.content
    size = sum(file.size_bytes for file in content.files)
    typer.echo(f"Packaged {content.format.value} model into {directory} ({size:,} bytes)")
    typer.echo(f"  digest  {manifest.digest}")
    _show_parity(manifest.provenance.parity)
    for note in manifest.provenance.notes:
        typer.echo(f"  note    {note}")


def compared(section: str, value: object) -> object:
    """A value of a diff as people read it: of a file's digest, its beginning."""
    return value[:12] if section == "files" and isinstance(value, str) else value


def show_registered(version: Version, shown: Version) -> None:
    """The registered version, with its parity report."""
    fact = "Registered" if version.created else "Already registered: the same bundle is"
    typer.echo(f"{fact} {version}")
    typer.echo(f"  digest  {version.digest}")
    if shown.manifest is not None:
        _show_parity(shown.manifest.provenance.parity)
        for note in shown.manifest.provenance.notes:
            typer.echo(f"  note    {note}")
    typer.echo(f"  next    shipway deploy {version}")


def show_version(version: Version, profile: Profile | None) -> None:
    """Everything that is known of a version."""
    by = f", by {version.created_by}" if version.created_by else ""
    typer.echo(
        f"{version}  ({version.created_at:%Y-%m-%d %H:%M} UTC{by})"
        if version.created_at
        else str(version)
    )
    if version.aliases:
        typer.echo(f"  aliases {text_of(version.aliases)}")
    if version.manifest is None:
        return
    content, provenance = version.manifest.content, version.manifest.provenance
    typer.echo(f"  digest  {version.digest}")
    typer.echo(f"  format  {content.format.value}, serves {content.served.value}")
    _show_parity(provenance.parity)
    place = placed(Placement.AUTO, version.manifest)
    typer.echo(f"  placed  {'inline' if place.inline else 'process'}: {place.reason}")
    _show_fields("Inputs", content.signature.inputs)
    _show_fields("Outputs", content.signature.outputs)
    _show_environment(content)
    _show_config(content)
    if profile is not None:
        _show_profile(profile)
    if provenance.metrics:
        show_table(["metric", "#value"], sorted(provenance.metrics.items()), title="\nMetrics")
    _show_lineage(provenance.lineage)
    for note in provenance.notes:
        typer.echo(f"note: {note}")


def parity_line(report: ParityReport | None) -> str:
    """The parity report in one line."""
    if report is None:
        return "not measured"
    measured = (
        f"{report.sample_rows} sample + {report.edge_rows} edge rows, "
        f"{report.label_mismatches} label mismatches, "
        f"largest difference {report.largest_difference:.2g} (allowed {report.tolerance:.2g})"
    )
    speed = f", ONNX is {report.speed_up:.1f}x as fast" if report.speed_up else ""
    if report.holds:
        return f"holds: {measured}{speed}"
    if not report.sample_rows + report.edge_rows:
        return f"not compared, the original is served: {report.reason}"
    return f"does not hold, the original is served: {report.reason} ({measured})"


def _show_parity(report: ParityReport | None) -> None:
    typer.echo(f"  parity  {parity_line(report)}")


def _show_fields(title: str, fields: tuple[Field, ...]) -> None:
    rows = [
        (
            field.name,
            field.dtype.value + _mark(field, "dtype"),
            str(list(field.shape)),
            text_of(field.nullable) + _mark(field, "nullable"),
            _range(field),
            _categories(field),
        )
        for field in fields
    ]
    columns = ["name", "dtype", "shape", "null", "range", "categories"]
    show_table(columns, rows, title=f"\n{title} (* declared, others inferred)")


def _mark(field: Field, attribute: str) -> str:
    return "*" if field.origin_of(attribute) == "declared" else ""


def _range(field: Field) -> str:
    if field.minimum is None and field.maximum is None:
        return ""
    low = text_of(field.minimum) + _mark(field, "minimum")
    return f"{low} … {text_of(field.maximum)}{_mark(field, 'maximum')}"


def _categories(field: Field) -> str:
    if field.categories is None:
        return ""
    shown = ", ".join(field.categories[:6])
    more = f" and {len(field.categories) - 6} more" if len(field.categories) > 6 else ""
    return f"{shown}{more}{_mark(field, 'categories')}"


def _show_environment(content: Content) -> None:
    lock = content.environment
    typer.echo(
        f"\nEnvironment: Python {lock.python}, {len(lock.requirements)} packages, "
        f"{lock.digest[:12]}"
    )
    for line in lock.requirements[:_SHOWN_PACKAGES]:
        typer.echo(f"  {line}")
    if len(lock.requirements) > _SHOWN_PACKAGES:
        typer.echo(f"  and {len(lock.requirements) - _SHOWN_PACKAGES} more (`--json` lists all)")


def _show_config(content: Content) -> None:
    if content.classes is not None:
        typer.echo(f"\nClasses: {text_of([str(label) for label in content.classes])}")
    if content.config.threshold is not None:
        typer.echo(f"Threshold: {content.config.threshold:g}")
    for name, renamed in content.config.output_names.items():
        typer.echo(f"Output `{name}` is called `{renamed}`")


def _show_profile(profile: Profile) -> None:
    rows = [
        (name, f"{column.missing_rate:.1%}", *_summary(column))
        for name, column in profile.columns.items()
    ]
    columns = ["column", "#missing", "histogram", "#min", "#median", "#max"]
    show_table(columns, rows, title=f"\nBaseline profile of {profile.rows} rows")


def _summary(column: ColumnProfile) -> tuple[object, ...]:
    if column.numeric is not None:
        numbers = column.numeric
        return (
            histogram_bars(numbers),
            numbers.minimum,
            numbers.quantiles.get("50"),
            numbers.maximum,
        )
    if column.categories is None:
        return ("", None, None, None)
    top = list(column.categories.items())[:4]
    return (", ".join(f"{name} {count}" for name, count in top), None, None, None)


def histogram_bars(numbers: NumericProfile, width: int = 16) -> str:
    """The distribution as bars of equal width between minimum and maximum.

    Stored bins hold about equal counts, so a bin's count is spread evenly over its width first.
    """
    edges, counts = numbers.histogram.edges, numbers.histogram.counts
    low, high = edges[0], edges[-1]
    if high <= low:
        return _BARS[-1]
    step = (high - low) / width
    masses = [
        sum(
            count * _overlap(start, end, low + index * step, low + (index + 1) * step)
            for start, end, count in zip(edges, edges[1:], counts, strict=False)
        )
        for index in range(width)
    ]
    tallest = max(masses) or 1.0
    return "".join(_BARS[round(mass / tallest * (len(_BARS) - 1))] for mass in masses)


def _overlap(start: float, end: float, left: float, right: float) -> float:
    """The share of [start, end] that lies in [left, right]."""
    return max(0.0, min(end, right) - max(start, left)) / (end - start) if end > start else 0.0


def _show_lineage(lineage: Lineage) -> None:
    commit = (
        lineage.git_commit and f"{lineage.git_commit[:12]}{' (dirty)' * bool(lineage.git_dirty)}"
    )
    facts = {
        "source": f"{lineage.source} (sha256 {lineage.source_sha256[:12]})",
        "commit": commit,
        "training data": lineage.training_data,
        "run": lineage.run_id,
        "packaged": f"{lineage.created_at:%Y-%m-%d %H:%M} UTC by {lineage.created_by}",
    }
    typer.echo("\nLineage")
    for name, fact in facts.items():
        if fact:
            typer.echo(f"  {name:14} {fact}")
