"""What is counted, how counts are added up, and how they look to Prometheus."""

import math
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from shipway.core.errors import (
    Bug,
    DeadlineExceeded,
    EndpointNotFound,
    InvalidInput,
    ModelFailed,
    NoReadyReplica,
    QueueFull,
    ReplicaLost,
    ShipwayError,
    VersionInUse,
)
from shipway.core.telemetry import (
    BOUNDS_S,
    BUCKETS,
    COLUMNS,
    STEPS_PER_S,
    Column,
    Outcome,
    Times,
    Totals,
    answers,
    buckets,
    count_answer,
    merged,
    outcome_of,
    settled,
)
from shipway.gateway.counters import Row
from shipway.wire.counters import (
    BLOCK_BYTES,
    MAGIC,
    NAME_AT,
    NAME_LIMIT_BYTES,
    VALUES_AT,
    Past,
    encoded_name,
    encoded_past,
    parsed,
    parsed_past,
)
from shipway.wire.exposition import Family, histogram, simple

NAMES = st.tuples(st.sampled_from(["a", "b", ""]), st.sampled_from(["", "m:1", "m:2"]))
ENDED = st.tuples(NAMES, st.sampled_from(Outcome), st.floats(0, 1e6))


def counted(requests):
    rows = {}
    for name, outcome, seconds in requests:
        count_answer(rows.setdefault(name, [0.0] * COLUMNS), outcome, seconds)
    return rows


def image(rows, *, blocks=8):
    data = bytearray(blocks * BLOCK_BYTES)
    data[: len(MAGIC)] = MAGIC
    for number, (name, row) in enumerate(rows.items(), start=1):
        label, at = encoded_name(name), number * BLOCK_BYTES
        memoryview(data)[at : at + NAME_AT].cast("Q")[0] = len(label)
        data[at + NAME_AT : at + NAME_AT + len(label)] = label
        data[at + VALUES_AT : at + VALUES_AT + 8 * COLUMNS] = array("d", row).tobytes()
    return data


@given(st.lists(st.lists(ENDED, max_size=20), max_size=5), st.randoms())
def test_merging_is_exact_whatever_the_order_and_the_grouping(gateways, random):
    whole = counted(request for requests in gateways for request in requests)
    parts = [counted(requests) for requests in gateways]
    random.shuffle(parts)
    cut = random.randint(0, len(parts))
    assert merged(parts) == whole
    assert merged([merged(parts[:cut]), merged(parts[cut:])]) == whole


@given(st.lists(ENDED, max_size=30))
def test_every_request_is_counted_once(requests):
    rows = counted(requests)
    for name, row in rows.items():
        own = [(outcome, seconds) for key, outcome, seconds in requests if key == name]
        ok = [seconds for outcome, seconds in own if outcome is Outcome.OK]
        totals = Totals.of(row)
        assert sum(answers(row, outcome) for outcome in Outcome) == len(own)
        assert (totals.ok, totals.other) == (len(ok), len(own) - len(ok))
        assert totals.ok_s == pytest.approx(sum(ok), abs=1e-6 * len(own))


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(0, 3)), max_size=20))
def test_stage_times_are_counted_apart_from_answers(asked):
    row = Row()
    for queue_s, run_s, batches in asked:
        row.add_times(Times(queue_s, run_s, 9, batches, 8 * batches))
    assert sum(buckets(row.values, Column.FIRST_QUEUE_BUCKET)) == len(asked)
    assert sum(buckets(row.values, Column.FIRST_RUN_BUCKET)) == len(asked)
    totals = [row.values[column] for column in (Column.QUEUE_STEPS, Column.RUN_STEPS)]
    sums = [sum(one[0] for one in asked), sum(one[1] for one in asked)]
    assert [steps / STEPS_PER_S for steps in totals] == pytest.approx(sums, abs=1e-5)
    assert row.values[Column.BATCHES] == sum(one[2] for one in asked)
    assert row.values[Column.BATCH_ROWS] == 8 * row.values[Column.BATCHES]
    assert all(answers(row.values, outcome) == 0 for outcome in Outcome)


def test_columns_do_not_overlap():
    firsts = (Column.FIRST_QUEUE_BUCKET, Column.FIRST_RUN_BUCKET, Column.FIRST_BUCKET)
    taken = [*Outcome, *(column for column in Column if column not in firsts)]
    taken += [first + at for first in firsts for at in range(BUCKETS)]
    assert sorted(taken) == list(range(COLUMNS))
    assert VALUES_AT + 8 * COLUMNS <= BLOCK_BYTES


def test_row_of_a_gateway_that_has_ended_holds_no_request():
    rows = {("a", ""): [1.0] * COLUMNS}
    kept = settled(rows)[("a", "")]
    assert kept[Column.IN_FLIGHT] == 0
    assert sum(kept) == COLUMNS - 1
    assert rows[("a", "")][Column.IN_FLIGHT] == 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (QueueFull, Outcome.SHED),
        (DeadlineExceeded, Outcome.DEADLINE),
        (InvalidInput, Outcome.CALLER),
        (EndpointNotFound, Outcome.CALLER),
        (VersionInUse, Outcome.CALLER),
        (NoReadyReplica, Outcome.UNAVAILABLE),
        (ReplicaLost, Outcome.UNAVAILABLE),
        (ModelFailed, Outcome.FAILED),
        (Bug, Outcome.FAILED),
        (ShipwayError, Outcome.FAILED),
    ],
)
def test_each_error_has_its_outcome(error, outcome):
    assert outcome_of(error("x")) is outcome


@given(st.lists(ENDED, max_size=20))
def test_rows_survive_the_way_through_a_file(requests):
    rows = counted(requests)
    assert parsed(memoryview(image(rows, blocks=16))) == rows
    past = Past(folded=("a.bin",), rows=rows)
    assert parsed_past(encoded_past(past)) == past


@given(st.binary(max_size=3000))
def test_foreign_bytes_are_no_rows(data):
    assert parsed(memoryview(data)) == {}
    assert parsed_past(data) == Past()


@given(st.lists(ENDED, min_size=1, max_size=9), st.data())
def test_torn_or_damaged_files_give_sound_rows_or_none(requests, data):
    rows = counted(requests)
    whole = image(rows, blocks=16)
    cut = whole[: data.draw(st.integers(0, len(whole)))]
    for name, row in parsed(memoryview(cut)).items():
        assert row == rows[name]
    at = data.draw(st.integers(len(MAGIC), len(whole) - 9))
    whole[at : at + 8] = data.draw(st.binary(min_size=8, max_size=8))
    for row in parsed(memoryview(whole)).values():
        assert len(row) == COLUMNS
        assert all(value >= 0 and math.isfinite(value) for value in row)
    packed = encoded_past(Past(folded=(), rows=rows))
    assert parsed_past(packed[: data.draw(st.integers(0, len(packed) - 1))]) == Past()


def test_longest_names_have_room():
    longest = ("e" * 63, f"{'m' * 63}:{10**12}")
    assert len(encoded_name(longest)) <= NAME_LIMIT_BYTES
    assert encoded_name(("e" * 200, "")) is None


@given(st.text(), st.floats(allow_nan=False, allow_infinity=False))
def test_prometheus_reads_back_what_was_said(label, value):
    family = Family(name="x_total", kind="gauge", help="A \\ of\nit.", labels=("a",))
    text = "\n".join(simple(family, [({"a": label}, value)])) + "\n"
    (read,) = text_string_to_metric_families(text)
    assert (read.documentation, read.type) == ("A \\ of\nit.", "gauge")
    assert [(s.name, s.labels, s.value) for s in read.samples] == [("x_total", {"a": label}, value)]


def test_histogram_is_cumulative():
    family = Family(name="x_seconds", kind="histogram", help="x")
    buckets = [1.0] * (len(BOUNDS_S) + 1)
    text = "\n".join(histogram(family, BOUNDS_S, [({}, buckets, 2.5)])) + "\n"
    (read,) = text_string_to_metric_families(text)
    samples = {(s.name, s.labels.get("le")): s.value for s in read.samples}
    assert samples[("x_seconds_bucket", "0.0001")] == 1
    assert samples[("x_seconds_bucket", "60")] == len(BOUNDS_S)
    assert samples[("x_seconds_bucket", "+Inf")] == samples[("x_seconds_count", None)] == 20
    assert samples[("x_seconds_sum", None)] == 2.5
