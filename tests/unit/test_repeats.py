"""Repeated requests are counted as a cache would answer them, and only where the log can tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.caching import KeptAnswers
from shipway.core.capturing import Capture, How, Redact
from shipway.core.partitions import Contents, Partition, since_of_newest
from shipway.core.repeats import Compared, compared_inputs, repeats_of
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="age", dtype=DataType.FP64),
        Field(name="payload", dtype=DataType.STRING),
        Field(name="_at", dtype=DataType.INT64),
    ),
    outputs=(Field(name="age", dtype=DataType.FP64),),
)


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30)), max_size=60),
    st.sampled_from([1.0, 7.0, 60.0]),
)
def test_as_many_repeat_as_a_cache_without_bounds_would_answer(steps, ttl_s):
    kept = KeptAnswers(ttl_s=ttl_s, max_bytes=2**30)
    asked, now, hits = [], 0, 0
    for key, later_s in steps:
        now += later_s
        asked.append((key, now * 1_000_000))
        if kept.get(bytes([key]), now) is not None:
            hits += 1
        else:
            kept.put(bytes([key]), {"label": np.array([1.0])}, now)
    found = repeats_of(asked, ttl_s=ttl_s)
    assert (found.requests, found.repeated) == (len(steps), hits)


@pytest.mark.parametrize(
    ("capture", "found"),
    [
        (None, None),
        (Capture(), Compared(columns=("age", "payload", "in._at"))),
        (Capture(share_pct=99.0), None),
        (Capture(fields=("age", "payload")), None),
        (Capture(fields=("_at", "age", "payload")), Compared(columns=("age", "payload", "in._at"))),
        (
            Capture(redact=("age",)),
            Compared(columns=("payload", "in._at"), redacted=("age",)),
        ),
        (
            Capture(redact=(Redact(field="payload", how=How.MASK),)),
            Compared(columns=("age", "payload", "in._at"), redacted=("payload",)),
        ),
        (
            Capture(redact=("payload.customer.email",)),
            Compared(columns=("age", "payload", "in._at"), redacted=("payload",)),
        ),
        (
            Capture(redact=(Redact(field="payload", how=How.HASH),)),
            Compared(columns=("age", "payload", "in._at")),
        ),
        (Capture(redact=("age", "payload", "_at")), None),
    ],
)
def test_requests_are_compared_by_inputs_that_are_all_there(capture, found):
    assert compared_inputs(capture, SIGNATURE) == found


def file(since_min: int, until_min: int, rows: int) -> Partition:
    return Partition(
        path=f"{since_min}-{until_min}",
        contents=Contents.PREDICTIONS,
        environment="dev",
        endpoint="churn",
        day=NOON.date(),
        rows=rows,
        size_bytes=rows,
        since=NOON + timedelta(minutes=since_min),
        until=NOON + timedelta(minutes=until_min),
    )


@pytest.mark.parametrize(
    ("rows", "minute"), [(5, 20), (10, 20), (11, 10), (15, 10), (16, 5), (25, 5), (26, 0), (99, 0)]
)
def test_the_newest_files_with_so_many_rows_begin_there(rows, minute):
    # The last one began before the third, which another gateway wrote.
    files = [file(-30, 9, 10), file(20, 30, 10), file(10, 19, 5), file(5, 18, 10)]
    assert since_of_newest(files, rows, since=NOON) == NOON + timedelta(minutes=minute)


def test_files_that_ended_before_are_not_counted():
    assert since_of_newest([file(-9, -1, 100), file(1, 2, 1)], 50, since=NOON) == NOON
