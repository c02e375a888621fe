"""What happened and when, and which claims were met."""

from __future__ import annotations

from time import monotonic

import typer

from shipway.cli.output import show_table


class Timeline:
    """Events and claims of a run, printed as they come and as tables at the end."""

    def __init__(self) -> None:
        self._started = monotonic()
        self._events: list[tuple[str, str, str]] = []
        self._claims: list[tuple[str, str, str]] = []

    @property
    def elapsed_s(self) -> float:
        """Seconds since the start."""
        return monotonic() - self._started

    @property
    def is_kept(self) -> bool:
        """Whether every claim was met, and there was one."""
        return bool(self._claims) and all(met == "yes" for _, _, met in self._claims)

    def event(self, what: str, figure: str) -> None:
        """Puts on record that something happened now."""
        at = f"{self.elapsed_s:.1f} s"
        self._events.append((at, what, figure))
        typer.echo(f"{at:>7}  {what}: {figure}")

    def claim(self, what: str, figure: str, *, met: bool) -> None:
        """Puts on record whether a claim was met."""
        self._claims.append((what, figure, "yes" if met else "NO"))
        if not met:
            typer.echo(f"         NOT MET: {what} ({figure})")

    def show(self) -> None:
        """Prints both tables."""
        show_table(["#time", "event", "figure"], self._events, title="What happened")
        typer.echo("")
        show_table(["claim", "figure", "met"], self._claims, title="What was claimed")
