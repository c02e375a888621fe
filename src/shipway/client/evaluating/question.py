"""What an evaluation is to find out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.core.evaluations import Task

PREFIX = "evaluate-"
"""How the names of temporary endpoints begin."""

LIVE, NOBODY = "live", "none"
MOST_CALLERS = 256
MOST_SLICE_COLUMNS = 20


class EvaluateOptions(TypedDict, total=False):
    """How to evaluate. All are optional.

    slices: columns by whose values the metrics are computed, too.
    against: `live` (what serves now; the default), a version such as `churn:1`, or `none`.
    task: `classification` or `regression`, where the version's outputs do not say it.
    load: how many callers ask at once for the latency profile; 0, the default, makes none.
    """

    slices: Sequence[str]
    against: str
    task: Task | str | None
    load: int


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which version, what the truth is, and what else is asked."""

    version: str
    label: str
    slices: tuple[str, ...] = ()
    against: str = LIVE
    task: Task | None = None
    load: int = 0


def question_of(version: str, label: str, options: EvaluateOptions) -> Question:
    """The question that options ask.

    Raises:
        InvalidRequest: there is no such task, or there are too many callers or slices.
    """
    task, load = options.get("task"), options.get("load", 0)
    slices = tuple(dict.fromkeys(options.get("slices", ())))
    if task is not None and task not in {one.value for one in Task}:
        raise InvalidRequest(
            f"`{task}` is no task.", next_step="Use `classification` or `regression`."
        )
    if not 0 <= load <= MOST_CALLERS:
        raise InvalidRequest(
            f"{load} callers cannot be simulated.", next_step=f"Use 1 to {MOST_CALLERS}."
        )
    if len(slices) > MOST_SLICE_COLUMNS:
        raise InvalidRequest(
            f"{len(slices)} columns are too many to slice by.",
            next_step=f"Use up to {MOST_SLICE_COLUMNS}.",
        )
    return Question(
        version=version,
        label=label,
        slices=slices,
        against=options.get("against", LIVE),
        task=None if task is None else Task(task),
        load=load,
    )
