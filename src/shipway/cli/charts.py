"""The course of a measure as a picture: in a terminal, and as SVG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from shipway.client.measuring import Measured

_BARS = " ▁▂▃▄▅▆▇█"
_HEIGHT = 8
_WIDTH, _TALL, _LEFT, _TOP, _BELOW = 720, 260, 70, 34, 30

Values = Sequence[float | None]


def sparkline(values: Sequence[float]) -> str:
    """Values in a line, each a bar between 0 and the largest. `sparkline([0, 4, 8])` is `▁▄█`."""
    top = max(values, default=0.0)
    if top <= 0:
        return _BARS[1] * len(values)
    return "".join(_BARS[max(1, round(value / top * 8))] for value in values)


def lines_of(measured: Measured) -> Iterator[str]:
    """The course as columns of a terminal, the largest value at the left of the first line."""
    values = [point.value for point in measured.points]
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    label = f"{number_of(top, measured.unit):>12}"
    for row in range(_HEIGHT, 0, -1):
        margin = label if row == _HEIGHT else f"{'0' if row == 1 else '':>12}"
        yield f"{margin} │{''.join(_cell(value, top, row) for value in values)}".rstrip()
    yield f"{'':>12} └{'─' * len(values)}"
    if measured.points:
        first, last = measured.points[0].at, measured.points[-1].at
        ends = f"{first:%m-%d %H:%M}{f'{last:%m-%d %H:%M} UTC':>{max(18, len(values) - 11)}}"
        yield f"{'':>14}{ends}"


def _cell(value: float | None, top: float, row: int) -> str:
    """What a column shows in a row, counted from below: eighths of it."""
    if value is None:
        return "·" if row == 1 else " "
    eighths = round(value / top * _HEIGHT * 8) - (row - 1) * 8
    return _BARS[min(8, max(0, eighths))]


def number_of(value: float | None, unit: str) -> str:
    """A value of a measure with its unit; `-` for none."""
    if value is None:
        return "-"
    match unit:
        case "ratio":
            return f"{value * 100:.3g} %"
        case "1/s":
            return f"{value:,.4g}/s"
        case "number" | "count":
            return f"{value:,.4g}"
        case _:
            return f"{value:,.4g} {unit}"


def svg_of(measured: Measured) -> str:
    """The course as an SVG picture of its own."""
    values = [point.value for point in measured.points]
    top = max((value for value in values if value is not None), default=0.0) or 1.0
    paths = "".join(f'<polyline points="{part}"/>' for part in _parts(values, top))
    what = f"{measured.measure} of {measured.version or measured.endpoint}"
    texts = (
        (_LEFT, 20, "start", f"{what}: {number_of(measured.value, measured.unit)} in the period"),
        (_LEFT - 6, _TOP + 5, "end", number_of(top, measured.unit)),
        (_LEFT - 6, _TALL - _BELOW, "end", "0"),
        (_LEFT, _TALL - 10, "start", f"{measured.since:%Y-%m-%d %H:%M}"),
        (_WIDTH - 10, _TALL - 10, "end", f"{measured.until:%Y-%m-%d %H:%M} UTC"),
    )
    written = "".join(
        f'<text x="{x}" y="{y}" text-anchor="{anchor}">{_escaped(text)}</text>'
        for x, y, anchor, text in texts
    )
    frame = f"M{_LEFT},{_TOP}V{_TALL - _BELOW}H{_WIDTH - 10}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TALL}" role="img"'
        ' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<path d="{frame}" fill="none" stroke="#888"/>'
        f'<g fill="none" stroke="#1f6feb" stroke-width="1.5">{paths}</g>{written}</svg>\n'
    )


def _parts(values: Values, top: float) -> Iterator[str]:
    """The line, in pieces where there is nothing between; a lone point is a short line."""
    width, height = _WIDTH - 10 - _LEFT, _TALL - _BELOW - _TOP
    step = width / max(1, len(values) - 1)
    part: list[str] = []
    for place, value in enumerate((*values, None)):
        if value is not None and math.isfinite(value):
            part.append(f"{_LEFT + place * step:.1f},{_TOP + height * (1 - value / top):.1f}")
        elif part:
            yield " ".join(part if len(part) > 1 else part * 2)
            part = []


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
