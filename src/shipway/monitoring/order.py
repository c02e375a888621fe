"""What the process of a run is told, and what it answers."""

from __future__ import annotations

from datetime import datetime

import msgspec

from shipway.core.monitor_runs import MonitorReport
from shipway.core.monitors import MonitorSpec
from shipway.core.profile import Profile
from shipway.core.signature import Field
from shipway.core.targets import Target
from shipway.store.predictions.reading import LogFiles

PAGE, SVG, PNG = "report.html", "plot.svg", "plot.png"
ARTIFACTS = (PAGE, SVG, PNG)
"""What is made of a report for people, by file name."""

EARLIER_WINDOWS = 7
"""A day's volume is held against those of the week before."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a monitor.

    The window goes from `start` up to `end`; `files` and `traffic` have what callers got, and no copies. It is compared with `profile` where there is one, else with the
    rows from `reference_start` up to `reference_end`, of `reference_files`. `traffic` has what all versions answered
    in the week before, for monitors of quality; `labelled` all feedback and all predictions since `reference_start`,
    for those of truths, which compare it with the output `target`. `inputs` and `outputs` are the fields that are kept as they were.
    Artifacts are written to `directory`, all of them when somebody asked for the run, else those of findings.
    """

    title: str
    version: int
    monitor: MonitorSpec
    files: LogFiles
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    batchable: bool
    start: datetime
    end: datetime
    reference: str
    runs_per_week: float
    directory: str
    profile: Profile | None = None
    reference_files: LogFiles | None = None
    traffic: LogFiles | None = None
    labelled: LogFiles | None = None
    target: Target | None = None
    reference_start: datetime | None = None
    reference_end: datetime | None = None
    always_drawn: bool = False


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it: a report, or the reason why there is none.

    `artifacts` are names of files in the order's directory.
    """

    report: MonitorReport | None = None
    message: str = ""
    artifacts: tuple[str, ...] = ()
