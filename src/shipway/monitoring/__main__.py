"""The process of one run: bounds itself, reads its order, and prints what came of it as JSON.

Run as `python -m shipway.monitoring`, with the order as one line of JSON on stdin, which stays open: the process
ends with whoever holds its other end.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from threading import Thread

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.monitor_runs import MonitorReport, MonitorVerdict
from shipway.monitoring.bounds import bind
from shipway.monitoring.html import page_of
from shipway.monitoring.order import PAGE, PNG, SVG, Answer, Order
from shipway.store.predictions.reading import LogFiles, connected

_NICE = 10
_ORPHANED = 4


def main() -> int:
    """Does one run; the exit code is 0 when its answer is whole."""
    line = sys.stdin.buffer.readline()
    Thread(target=_end_with_parent, daemon=True).start()
    bind()
    os.nice(_NICE)
    order = msgspec.json.decode(line, type=Order)
    try:
        found = answer_to(order)
    except ShipwayError as error:
        found = Answer(message=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(found))
    return 0


def answer_to(order: Order) -> Answer:
    """The report of an order, with the files that were made of it."""
    # The order is there, so that SciPy and DuckDB are needed; half a second.
    from shipway.monitoring.run import Logs, report_of

    spill = Path(order.directory) / "spill"
    nothing = LogFiles()
    with ExitStack() as stack:
        report = report_of(
            order,
            Logs(
                *(
                    stack.enter_context(connected(files or nothing, temp_dir=spill))
                    for files in (
                        order.files,
                        order.reference_files,
                        order.traffic,
                        order.labelled,
                    )
                )
            ),
        )
    drawn = order.always_drawn or report.verdict is MonitorVerdict.FIRING
    return Answer(report=report, artifacts=_drawn(order, report) if drawn else ())


def _drawn(order: Order, report: MonitorReport) -> tuple[str, ...]:
    from shipway.monitoring.plots import MOST_PLOTTED, pictures_of, svg_of

    directory = Path(order.directory)
    plots = [svg_of(finding) for finding in report.findings[: 2 * MOST_PLOTTED]]
    (directory / PAGE).write_text(page_of(report, title=order.title, plots=plots))
    if not report.findings:
        return (PAGE,)
    svg, png = pictures_of(report)
    (directory / SVG).write_text(svg)
    (directory / PNG).write_bytes(png)
    return (PAGE, SVG, PNG)


def _end_with_parent() -> None:
    # Not by `sys.stdin`, whose lock the interpreter wants at its end.
    while os.read(0, 4096):
        pass
    os._exit(_ORPHANED)


if __name__ == "__main__":
    sys.exit(main())
