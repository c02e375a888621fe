"""What was counted, the numbers made of it, and the windows that make up a period."""

import re
from datetime import UTC, datetime, timedelta
from itertools import accumulate

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from shipway.core.errors import InvalidRequest
from shipway.core.measures import MEASURES, OF_SERVER, measure_of, quantile_s, value_of
from shipway.core.promql import QUERIES, query_of, selector_of
from shipway.core.resolutions import (
    FINE,
    HOURS,
    MINUTES,
    RESOLUTIONS,
    aligned,
    step_for,
    stretches,
)
from shipway.core.tallies import BUCKETS, NAMES, added, grown, is_sound, tally_of
from shipway.core.telemetry import BOUNDS_S, COLUMNS, STEPS_PER_S, Column, Outcome, count_answer
from shipway.wire.tallies import decoded, encoded

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
tallies = st.dictionaries(
    st.sampled_from(NAMES), st.integers(1, 2**40).map(float), max_size=len(NAMES)
)


# Tallies


def test_every_column_has_a_name_of_its_own():
    assert len(NAMES) == len(set(NAMES)) == COLUMNS


def test_row_keeps_what_was_counted_and_not_what_is_inside_now():
    row = [0.0] * COLUMNS
    count_answer(row, Outcome.OK, 0.003)
    count_answer(row, Outcome.SHED, 0.25)
    row[Column.IN_FLIGHT] = 7.0
    row[Column.RETRIES] = 2.0
    assert tally_of(row) == {
        "le_0.005": 1, "shed": 1, "retries": 2, "ok_steps": 12583, "other_steps": 1048576
    }  # fmt: skip


@given(st.lists(tallies, max_size=5), st.randoms())
def test_sum_does_not_depend_on_the_order_or_on_sums_made_before(parts, random):
    mixed = list(parts)
    random.shuffle(mixed)
    half = len(mixed) // 2
    assert added(parts) == added((added(mixed[:half]), added(mixed[half:])))


@given(tallies, tallies)
def test_growth_is_what_brings_the_earlier_counts_to_the_later_ones(before, more):
    now = added((before, more))
    assert grown(before, now) == more
    if more:
        assert grown(now, before) is None


@given(tallies)
def test_tally_is_read_back_as_it_was_written(tally):
    assert decoded(encoded(tally)) == tally
    assert encoded(dict(reversed(tally.items()))) == encoded(tally)


@pytest.mark.parametrize("data", [b"", b"\x81", b"\x90", b"\x81\xa1a\xcb\x7f\xf0\0\0\0\0\0\0"])
def test_bytes_that_are_no_tally_count_nothing(data):
    assert decoded(data) == {}


@pytest.mark.parametrize("count", [-1.0, 0.5, float("nan"), float("inf"), 2.0**54])
def test_what_is_no_count_is_not_sound(count):
    assert not is_sound({"shed": count})


# Measures

MINUTE = {
    "le_0.01": 30.0, "le_0.02": 60.0, "le_60": 10.0,
    "caller": 5.0, "shed": 10.0, "deadline": 1.0, "unavailable": 2.0, "failed": 2.0,
    "cache_hits": 3.0, "cache_misses": 9.0, "fallbacks": 6.0, "retries": 4.0,
    "looks": 30.0, "samples": 60.0, "measured": 30.0, "ready": 45.0, "starting": 3.0,
    "in_flight": 60.0, "cpu_ms": 90_000.0, "memory_kib": 30 * 2048.0,
    "cold_starts": 1.0, "exits": 2.0,
    "queue_le_0.01": 3.0, "queue_le_60": 1.0, "queue_steps": 4 * 0.002 * STEPS_PER_S,
    "run_le_0.01": 4.0, "run_steps": 4 * 0.008 * STEPS_PER_S, "batches": 2.0, "batch_rows": 9.0,
    "captured": 90.0, "lost_queue": 4.0, "lost_disk": 2.0, "lost_invalid": 1.0,
}  # fmt: skip
"""A minute with 120 requests, looked at 30 times."""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("requests_per_s", 2.0), ("error_rate", 5 / 120), ("caller_error_rate", 5 / 120),
        ("shed_rate", 10 / 120), ("unavailable", 2 / 120), ("deadline_rate", 1 / 120),
        ("p50_ms", 10 + 10 * 20 / 60), ("p95_ms", 30_000 + 30_000 * 0.5),
        ("p99_ms", 30_000 + 30_000 * 0.9), ("cache_hit_rate", 0.25), ("fallback_rate", 0.05),
        ("retries", 4.0), ("in_flight", 2.0), ("replicas_ready", 1.5), ("replicas_starting", 0.1),
        ("cpu_cores", 1.5), ("memory_mb", 2.0), ("cold_starts", 1.0), ("restarts", 2.0),
        ("queue_ms", 2.0), ("infer_ms", 8.0), ("batch_rows", 4.5), ("captured", 90.0),
        ("capture_lost", 7.0),
    ],
)  # fmt: skip
def test_measures_of_a_minute(name, value):
    assert value_of(name, MINUTE, 60.0) == pytest.approx(value)


def test_every_measure_of_an_endpoint_is_in_the_table_above():
    tested = {case[0] for case in test_measures_of_a_minute.pytestmark[0].args[1]}
    assert tested == MEASURES.keys() - OF_SERVER


@pytest.mark.parametrize("name", MEASURES)
def test_nothing_is_made_of_a_period_that_nothing_was_kept_of(name):
    assert value_of(name, {}, 60.0) is None


RATES = ("error_rate", "shed_rate", "p99_ms", "cache_hit_rate", "fallback_rate")


@pytest.mark.parametrize("name", RATES)
def test_share_of_no_requests_is_unknown_and_not_zero(name):
    assert value_of(name, {"looks": 30.0, "ready": 30.0}, 60.0) is None


def test_version_is_measured_over_its_own_looks_and_an_endpoint_over_its_own():
    version = {"samples": 10.0, "ready": 20.0}
    assert value_of("replicas_ready", version, 20.0) == 2.0
    both = added((version, {"samples": 10.0, "ready": 10.0}, {"looks": 10.0}))
    assert value_of("replicas_ready", both, 20.0) == 3.0


def test_model_in_the_gateways_has_no_processor_time_of_its_own():
    inline = {"looks": 30.0, "samples": 30.0, "ready": 30.0}
    assert value_of("cpu_cores", inline, 60.0) is None
    assert value_of("memory_mb", inline, 60.0) is None


@given(
    st.lists(st.floats(0.00001, 59.0), min_size=1, max_size=300),
    st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]),
)
def test_quantile_is_off_by_no_more_than_its_bucket(seconds, share):
    row = [0.0] * COLUMNS
    for one in seconds:
        count_answer(row, Outcome.OK, one)
    found = quantile_s(row[Column.FIRST_BUCKET :], share)
    true = sorted(seconds)[max(0, -(-int(share * len(seconds) * 1000) // 1000) - 1)]
    place = next(i for i, bound in enumerate(BOUNDS_S) if true <= bound)
    below = BOUNDS_S[place - 1] if place else 0.0
    assert below <= found <= BOUNDS_S[place] or found == pytest.approx(below)


def test_quantile_above_the_last_bound_is_the_last_bound():
    assert quantile_s([0.0] * len(BOUNDS_S) + [3.0], 0.5) == BOUNDS_S[-1]
    assert len(BUCKETS) == len(BOUNDS_S) + 1


def test_wrong_measure_is_refused_with_the_right_ones():
    with pytest.raises(InvalidRequest, match="`p99_ms`"):
        measure_of("p98_ms", "churn")
    with pytest.raises(InvalidRequest):
        measure_of("gateways", "churn")
    with pytest.raises(InvalidRequest):
        measure_of("p99_ms", "")


def test_every_measure_can_be_asked_of_prometheus():
    assert QUERIES.keys() == MEASURES.keys()
    for name in MEASURES:
        assert "$" not in query_of(name, of='endpoint="e"', window="60s")


def test_selector_of_a_name_cannot_leave_its_quotes():
    assert selector_of('a"b\\', "c:1") == 'endpoint="a\\"b\\\\", version="c:1"'
    assert selector_of("") == ""


# Resolutions

ages = st.timedeltas(timedelta(0), timedelta(days=399))


@given(ages, ages)
def test_stretches_hold_each_moment_of_the_period_once(one, other):
    since, until = sorted((NOW - one, NOW - other))
    found = stretches(since, until, NOW)
    at = aligned(since, NOW)
    for part in found:
        assert part.since == at
        assert part.since < part.until
        at = part.until
    if since < until and aligned(since, NOW) == aligned(until, NOW):
        assert at - aligned(since, NOW) in {timedelta(seconds=one.step_s) for one in RESOLUTIONS}
        assert at > since
    else:
        assert at == max(aligned(since, NOW), aligned(until, NOW))
    assert len(found) <= 2 * len(RESOLUTIONS) - 1


@given(ages, ages)
def test_stretches_name_whole_windows_that_are_kept(one, other):
    since, until = sorted((NOW - one, NOW - other))
    for part in stretches(since, until, NOW):
        kept = next(r for r in RESOLUTIONS if r.step_s == part.step_s)
        assert part.since == kept.start_of(part.since)
        assert part.until == kept.start_of(part.until)
        assert NOW - part.since < timedelta(seconds=kept.keep_s)


@given(st.lists(st.tuples(ages, st.integers(1, 100)), max_size=60), ages, ages)
def test_sum_over_any_period_is_exact_in_all_resolutions(events, one, other):
    windows = {}
    for age, count in events:
        for each in RESOLUTIONS:
            key = each.step_s, each.start_of(NOW - age)
            windows[key] = windows.get(key, 0) + count
    since, until = sorted((NOW - one, NOW - other))
    parts = stretches(since, until, NOW)
    summed = sum(
        count
        for (step_s, at), count in windows.items()
        for part in parts
        if step_s == part.step_s and part.since <= at < part.until
    )
    begin, end = aligned(since, NOW), aligned(until, NOW)
    assert summed == sum(count for age, count in events if begin <= NOW - age < end)


def test_ends_move_by_no_more_than_a_window_that_is_kept():
    for one, finest in ((FINE, 10), (MINUTES, 60), (HOURS, 3600)):
        at = NOW - timedelta(seconds=one.keep_s - 4000 if one is not FINE else 60)
        assert timedelta(0) <= at - aligned(at, NOW) < timedelta(seconds=finest)


@pytest.mark.parametrize(
    ("wanted_s", "back", "step_s"),
    [(1, timedelta(minutes=5), 10), (25, timedelta(hours=1), 30), (10, timedelta(hours=3), 60),
     (90, timedelta(days=1), 120), (60, timedelta(days=30), 3600), (1, timedelta(days=900), 3600)],
)  # fmt: skip
def test_series_has_steps_of_what_is_kept(wanted_s, back, step_s):
    assert step_for(wanted_s, NOW - back, NOW) == step_s


@pytest.mark.parametrize(
    ("bound", "share"), [("10", 0.7), ("15", 0.4), ("20", 0.1), ("60000", 0.0), ("99999", 0.0)]
)
def test_share_of_answers_above_a_bound(bound, share):
    assert value_of(f"slower_than_ms:{bound}", MINUTE, 60.0) == pytest.approx(share)
    assert measure_of(f"slower_than_ms:{bound}", "churn").unit == "ratio"
    assert query_of(f"slower_than_ms:{bound}", of='endpoint="churn"', window="5m").startswith(
        "1 - "
    )


@pytest.mark.parametrize(
    "name", ["slower_than_ms", "slower_than_ms:", "slower_than_ms:-1", "slower_than_ms:x"]
)
def test_bound_that_is_none_is_no_measure(name):
    with pytest.raises(InvalidRequest):
        measure_of(name, "churn")


@given(
    counts=st.lists(st.integers(0, 1000), min_size=len(BUCKETS), max_size=len(BUCKETS)),
    bound_ms=st.floats(0.01, 90_000),
)
def test_slow_answers_are_as_many_by_prometheus(counts, bound_ms):
    assume(sum(counts))
    measure = f"slower_than_ms:{bound_ms:g}"
    ends = [*(f"{end:g}" for end in BOUNDS_S), "+Inf"]
    within = dict(zip(ends, accumulate(counts), strict=True))
    query = query_of(measure, of='endpoint="e"', window="5m")
    query = re.sub(
        r'sum\(increase\(shipway_request_seconds_bucket\{endpoint="e", le="([^"]+)"\}\[5m\]\)\)',
        lambda found: str(within[found[1]]),
        query,
    )
    total = 'sum(increase(shipway_request_seconds_count{endpoint="e"}[5m])) > 0'
    by_prometheus = eval(query.replace(total, str(sum(counts))))
    tally = dict(zip(BUCKETS, map(float, counts), strict=True))
    assert by_prometheus == pytest.approx(value_of(measure, tally, 300.0), abs=1e-6)
