"""When monitors are due: by table, and as laws over any times."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.durations import duration_of
from shipway.core.errors import InvalidSpec
from shipway.core.schedules import Schedule, require_cron, spread

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def at(text):
    return datetime.fromisoformat(f"{text}+00:00")


HOURLY = Schedule(every=HOUR, offset=10 * MINUTE)
DAILY = Schedule(cron="0 6 * * *")

DUE = [
    ("never run", HOURLY, None, "2026-05-06T07:30", "2026-05-06T07:10"),
    ("its slot is now", HOURLY, "2026-05-06T06:10", "2026-05-06T07:10", "2026-05-06T07:10"),
    ("just before", HOURLY, "2026-05-06T06:10", "2026-05-06T07:09:59.999999", None),
    ("it ran already", HOURLY, "2026-05-06T07:10", "2026-05-06T07:59", None),
    ("a day missed is one run", HOURLY, "2026-05-05T07:10", "2026-05-06T07:30", "2026-05-06T07:10"),
    ("the interval was changed", HOURLY, "2026-05-06T07:25", "2026-05-06T07:30", None),
    ("before six", DAILY, "2026-05-05T06:00", "2026-05-06T05:59:59", None),
    ("at six", DAILY, "2026-05-05T06:00", "2026-05-06T06:00", "2026-05-06T06:00"),
    ("a week missed is one run", DAILY, "2026-04-29T06:00", "2026-05-06T09:00", "2026-05-06T06:00"),
    ("in March, when clocks elsewhere change", DAILY, "2026-03-28T06:00", "2026-03-29T06:00",
     "2026-03-29T06:00"),
]  # fmt: skip


@pytest.mark.parametrize(("what", "schedule", "last", "now", "due"), DUE, ids=[d[0] for d in DUE])
def test_a_run_is_due_at_its_newest_slot(what, schedule, last, now, due):
    found = schedule.due(last and at(last), at(now))
    assert found == (due and at(due))


CRONS = ["*/5 * * * *", "0 6 * * 1-5", "0 0 1 * *", "30 2 29 2 *", "17 3 * * sun"]
moments = st.integers(10**9, 28 * 10**8).map(lambda s: datetime.fromtimestamp(s, UTC))
intervals = st.integers(60, 40 * 86400).map(lambda s: timedelta(seconds=s))
schedules = st.one_of(
    st.sampled_from(CRONS).map(lambda cron: Schedule(cron=cron)),
    st.builds(
        lambda every, name: Schedule(every=every, offset=spread(name, every)), intervals, st.text()
    ),
)


@given(schedules, moments)
def test_slots_are_fixed_points_in_order(schedule, now):
    newest, following = schedule.newest(now), schedule.following(now)
    assert newest <= now < following
    assert schedule.newest(newest) == newest
    assert schedule.newest(following) == following
    assert schedule.newest(following - timedelta(microseconds=1)) == newest


def run_at(schedule, done, now):
    """What a server does: asks with the newest slot up to now, and runs a slot once."""
    due = schedule.due(max((slot for slot in done if slot <= now), default=None), now)
    if due is not None:
        assert due not in done, "a slot is run twice"
        done.append(due)
    return due


steps = st.lists(st.integers(-90 * 86400, 90 * 86400), min_size=1, max_size=30)


@given(schedules, moments, steps)
def test_whatever_the_clock_does_no_slot_runs_twice_and_one_look_catches_up(schedule, now, jumps):
    done = []
    for jump in jumps:
        now += timedelta(seconds=jump)
        run_at(schedule, done, now)
        assert run_at(schedule, done, now) is None, "missed runs are caught up once"
        assert schedule.newest(now) in done


@given(schedules, moments)
def test_a_clock_set_back_does_not_stop_a_monitor(schedule, now):
    done = []
    run_at(schedule, done, now + timedelta(days=3660))
    assert run_at(schedule, done, now) is not None


@given(intervals)
def test_monitors_of_one_interval_do_not_all_come_at_once(every):
    places = {spread(f"endpoint-{number}", every) for number in range(50)}
    assert all(timedelta() <= place < every for place in places)
    assert len(places) > 15


@pytest.mark.parametrize(
    "text",
    [
        "0 0 30 2 *",
        "R * * * *",
        "H H * * *",
        "* * * * * *",
        "@daily",
        "61 * * * *",
        "",
        "x * * * *",
    ],
)
def test_what_is_no_time_is_refused(text):
    with pytest.raises(InvalidSpec, match="no time that comes"):
        require_cron(text)


@pytest.mark.parametrize("text", ["0 6 * * 1-5", "*/15 * * * *", "0 0 1 mar thu", "0 0 29 2 *"])
def test_cron_expressions_of_five_fields_are_taken(text):
    require_cron(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("15m", 900), ("24h", 86400), ("7d", 604800)]
)
def test_durations_are_a_number_and_a_unit(text, seconds):
    assert duration_of(text, name="every").total_seconds() == seconds


@pytest.mark.parametrize(
    "text", ["", "0m", "-1h", "1.5h", "1w", "h", "1 h", "99999999d", "\u0661h", "1\u0661h"]
)
def test_other_texts_are_no_durations(text):
    with pytest.raises(InvalidSpec, match="`window`"):
        duration_of(text, name="window")


@pytest.mark.parametrize(
    ("schedule", "runs"),
    [
        (HOURLY, 168),
        (DAILY, 7),
        (Schedule(cron="* * * * *"), 10_080),
        (Schedule(cron="*/5 9-16 * * 1-5"), 480),
        (Schedule(cron="0 0 29 2 *"), 1),
    ],
)
def test_runs_of_a_week_are_all_counted(schedule, runs):
    assert schedule.runs_per_week(at("2026-05-06T07:30:30")) == runs
