"""What commands print: tables for people on stdout, JSON for machines, progress on a terminal's stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from shipway.client.upload import OnProgress, nobody_watches
from shipway.core.tensors import Array

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table


def show_json(value: Any) -> None:
    """Prints a value as indented JSON."""
    encoded = msgspec.json.encode(value, enc_hook=_plain)
    typer.echo(msgspec.json.format(encoded, indent=2).decode())


def show_json_line(value: Any) -> None:
    """Prints a value as JSON in a line of its own, for who reads as they come."""
    typer.echo(msgspec.json.encode(value, enc_hook=_plain).decode())


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise NotImplementedError  # how msgspec is told that a type is not ours to encode


def show_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "", empty: str = ""
) -> None:
    """Prints a table, or the line `empty` when there are no rows. Columns called `#…` align right."""
    listed = list(rows)
    if not listed and empty:
        typer.echo(empty)
        return
    show(table_of(columns, listed, title=title))


def table_of(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A table without lines. Cells that are rich's own texts keep their style."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        right = column.startswith("#")
        table.add_column(
            column.removeprefix("#").upper(),
            justify="right" if right else "left",
            overflow="fold",
        )
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(text_of(cell)) for cell in row))
    return table


def show(rendered: RenderableType) -> None:
    """Prints what rich can render."""
    from rich.console import Console

    # A pipe has no width; a table wrapped for one could not be read by `grep`.
    console = Console(width=None if sys.stdout.isatty() else 200, highlight=False)
    with console.capture() as captured:
        console.print(rendered)
    # Not by rich, which ends the process with 1 when the reader (`| head`) has seen enough.
    typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def text_of(cell: object) -> str:
    """A cell's text: `-` for nothing, six digits for floats, joined lists."""
    if cell is None or cell == "":
        return "-"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.6g}"
    if isinstance(cell, list | tuple):
        return ", ".join(text_of(item) for item in cell) or "-"
    return str(cell)


def age_of(at: datetime | None) -> str:
    """How long ago, as people say it: `12s`, `5m`, `3h`, `2d`."""
    if at is None:
        return "-"
    # The command line owns its clock: an age is always of now.
    seconds = max(0.0, (datetime.now(UTC) - at).total_seconds())  # noqa: TID251
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def show_note(text: str) -> None:
    """Prints a line for people on stderr, so that stdout holds only the answer."""
    typer.echo(text, err=True)


@contextmanager
def progress(label: str) -> Iterator[OnProgress]:
    """A progress bar on stderr when that is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield nobody_watches
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    with bar:
        task = bar.add_task(label, total=None)

        def on_progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=f"{label}: {step}", completed=done, total=total or None)

        yield on_progress


def columns_of(outputs: dict[str, Array]) -> tuple[list[str], list[list[object]]]:
    """Outputs as table columns and rows: a matrix becomes one column per position, up to 12."""
    names: list[str] = []
    columns: list[list[object]] = []
    for name, array in outputs.items():
        flat = array.reshape(array.shape[0] if array.ndim else 1, -1)
        width = flat.shape[1]
        for index in range(min(width, 12)):
            names.append(name if width == 1 else f"{name}[{index}]")
            columns.append(flat[:, index].tolist())
    return names, [list(row) for row in zip(*columns, strict=True)]
