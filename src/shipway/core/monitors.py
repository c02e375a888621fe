"""What is checked of an endpoint's predictions, how often, and against what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from shipway.core.durations import duration_of
from shipway.core.errors import InvalidSpec
from shipway.core.schedules import Schedule, require_cron, spread
from shipway.core.signals import Severity
from shipway.core.versions import checked_name

BASELINE: Literal["baseline"] = "baseline"
EVERY = "1h"
"""How often a monitor runs that says nothing of it."""

TRAILING = "7d"
"""What it is compared with where the bundle has no baseline profile."""

THRESHOLDS = ("effect", "false_alarms_per_week", "share", "error", "ratio")
"""What can be set otherwise; see docs/howto/monitors.md."""

SHORTEST = timedelta(minutes=1)
LONGEST = timedelta(days=366)


class MonitorKind(StrEnum):
    """What a monitor looks at."""

    DRIFT = "drift"
    """Whether the inputs are distributed as before."""

    PREDICTION_DRIFT = "prediction_drift"
    """Whether the outputs are."""

    QUALITY = "quality"
    """Whether the data is sound: missing values, ranges, categories, constant columns, volume."""

    MULTIVARIATE = "multivariate"
    """Whether all inputs together are as before: a classifier tries to tell the rows of both sides apart."""

    PERFORMANCE = "performance"
    """Whether errors became more, where feedback says what was true."""

    BIAS = "bias"
    """Whether segments are treated alike (two classes; with feedback also whether errors are)."""


_OF_INPUTS = (MonitorKind.DRIFT, MonitorKind.QUALITY)
OF_TRUTHS = (MonitorKind.PERFORMANCE, MonitorKind.BIAS)
"""Those that look at answers beside what came true."""


class Against(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the window is compared with. Exactly one is given."""

    trailing: str | None = None
    """Predictions of so long before the window, such as `7d`."""

    version: Annotated[int, msgspec.Meta(ge=1)] | None = None
    """What another version of the model answered in the same window, copies that no caller saw included."""


class MonitorSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One check, as a person declares it."""

    kind: MonitorKind
    """What it looks at."""

    name: str = ""
    """What it is called; its kind when left out. Each of an endpoint has its own."""

    every: str | None = None
    """How often it runs: `15m`, `1h`, `1d`; `1h` when there is no `cron` either."""

    cron: str | None = None
    """When it runs, as five fields in UTC: `0 6 * * 1-5`."""

    against: Literal["baseline"] | Against | None = None
    """`baseline` is the profile of the sample that the version was packaged with, or
    `{trailing: 7d}`, or `{version: 3}`. When left out: the baseline, and where there is none `{trailing: 7d}`."""

    window: str = "24h"
    """The predictions that it judges: those of so long before it is due, and no copies for a shadow."""

    features: tuple[str, ...] | None = None
    """The inputs or outputs that it looks at; all of them when left out."""

    min_rows: Annotated[int, msgspec.Meta(ge=2)] | None = None
    """With fewer rows on either side there is no verdict."""

    thresholds: dict[str, float] = {}
    """Bounds other than the defaults, by name."""

    severity: Severity = Severity.WARNING
    """How soon somebody should look when it finds something."""

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.kind.value

    @property
    def rule(self) -> str:
        """The rule of its alerts: its kind, and after a colon its name where it has another."""
        kind = self.kind.value
        return kind if self.label == kind else f"{kind}:{self.label}"

    @property
    def length(self) -> timedelta:
        """How much time the window holds."""
        return duration_of(self.window, name="window")

    def reference(self, *, has_baseline: bool) -> Literal["baseline"] | Against:
        """What it is compared with; a bundle's baseline has inputs alone, and no rows of them."""
        if self.against is not None:
            return self.against
        is_known = has_baseline and self.kind in _OF_INPUTS
        return BASELINE if is_known else Against(trailing=TRAILING)

    def schedule(self, endpoint: str) -> Schedule:
        """When it runs. Intervals of different endpoints and monitors are shifted against each other."""
        if self.cron is not None:
            return Schedule(cron=self.cron)
        every = duration_of(self.every or EVERY, name="every")
        return Schedule(every=every, offset=spread(f"{endpoint}/{self.label}", every))


DEFAULTS = (
    MonitorSpec(kind=MonitorKind.DRIFT),
    MonitorSpec(kind=MonitorKind.PREDICTION_DRIFT),
    MonitorSpec(kind=MonitorKind.QUALITY),
    MonitorSpec(kind=MonitorKind.PERFORMANCE),
)
"""What an endpoint has whose spec names no monitors, from the moment it keeps predictions.

`performance` runs once there is feedback."""


def require_monitors(monitors: Sequence[MonitorSpec]) -> None:
    """Refuses monitors that make no sense.

    Raises:
        InvalidSpec: two have one name, or one breaks a rule; the message names it.
    """
    seen: set[str] = set()
    for monitor in monitors:
        if monitor.label in seen:
            raise _invalid(monitor, "is there twice", "Give each monitor a `name` of its own.")
        seen.add(monitor.label)
        _require(monitor)


def _require(monitor: MonitorSpec) -> None:
    checked_name(monitor.label, kind="monitor")
    if monitor.every is not None and monitor.cron is not None:
        raise _invalid(monitor, "has both `every` and `cron`", "Leave one out.")
    if monitor.cron is not None:
        require_cron(monitor.cron)
    for key, text in _durations(monitor):
        if not SHORTEST <= duration_of(text, name=key) <= LONGEST:
            raise _invalid(monitor, f"has `{key}: {text}`", "Use between `1m` and `366d`.")
    against = monitor.against
    if isinstance(against, Against) and (against.trailing is None) == (against.version is None):
        raise _invalid(
            monitor,
            "does not say what it is compared with",
            "Give one of `{trailing: 7d}` and `{version: 3}`.",
        )
    if against == BASELINE and monitor.kind not in _OF_INPUTS:
        raise _invalid(
            monitor, "needs rows, and the baseline has none of it", "Use `{trailing: 7d}`."
        )
    has_version = isinstance(against, Against) and against.version is not None
    if has_version and monitor.kind in OF_TRUTHS:
        raise _invalid(monitor, "is compared with a version", "Use `{trailing: 7d}`.")
    for name in monitor.thresholds:
        if name not in THRESHOLDS:
            known = ", ".join(f"`{one}`" for one in THRESHOLDS)
            raise _invalid(monitor, f"has the unknown threshold `{name}`", f"There are {known}.")


def _durations(monitor: MonitorSpec) -> Iterator[tuple[str, str]]:
    against = monitor.against
    trailing = against.trailing if isinstance(against, Against) else None
    given: Mapping[str, str | None] = {
        "every": monitor.every,
        "window": monitor.window,
        "against.trailing": trailing,
    }
    return ((key, text) for key, text in given.items() if text is not None)


def _invalid(monitor: MonitorSpec, fact: str, next_step: str) -> InvalidSpec:
    return InvalidSpec(
        f"Monitor `{monitor.label}` {fact}.", next_step=next_step, path=f"monitors.{monitor.label}"
    )
