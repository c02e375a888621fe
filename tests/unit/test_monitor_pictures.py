"""Runs of monitors as the terminal shows them."""

from datetime import UTC, datetime, timedelta

from shipway.cli.monitors import bar_of, course_of, show_run, show_runs, show_stands
from shipway.core.monitor_runs import (
    Bars,
    MonitorFinding,
    MonitorReport,
    MonitorRun,
    MonitorStand,
    MonitorVerdict,
    Point,
    done,
    failed,
)
from shipway.core.monitors import MonitorKind, MonitorSpec

NOW = datetime(2026, 5, 6, 7, tzinfo=UTC)
HOUR = timedelta(hours=1)


def points(*values):
    return tuple(
        Point(at=NOW + n * HOUR, until=NOW + (n + 1) * HOUR, value=value, rows=50)
        for n, value in enumerate(values)
    )


def ended():
    moved = MonitorFinding(
        feature="income", what="drift", verdict=MonitorVerdict.FIRING,
        words="`income`: mean rose from 41 to 74.", numbers={"effect": 2.5},
        statistic="wasserstein", since=NOW - 8 * HOUR, series=points(0.1, 0.1, 2.5, 2.5),
        bars=Bars(labels=("< 18", "18 to 25", "> 25"), reference=(0.0, 1.0, 0.0),
                  current=(0.0, 0.5, 0.5)),
    )  # fmt: skip
    still = MonitorFinding(
        feature="age", what="drift", verdict=MonitorVerdict.STEADY, words="`age`: mean stayed."
    )
    report = MonitorReport(
        verdict=MonitorVerdict.FIRING, summary=moved.words, start=NOW - 24 * HOUR, end=NOW,
        reference="the baseline of churn:1", rows=3000, reference_rows=5000, checked=2,
        findings=(moved, still), notes=("Not kept: `town`.",),
    )  # fmt: skip
    return done(waiting(), report, artifacts=("report.html",), now=NOW)


def waiting():
    monitor = MonitorSpec(kind=MonitorKind.DRIFT)
    return MonitorRun(id="run-1", environment="dev", endpoint="churn", monitor=monitor, due_at=NOW)


def test_a_finding_shows_what_moved_how_and_since_when(capsys):
    show_run(ended())
    said = capsys.readouterr().out
    assert "drift of churn: firing" in said
    assert "income (drift): `income`: mean rose from 41 to 74. Since 2026-05-05 23:00 UTC." in said
    assert "wasserstein over time  ▁▁██" in said
    lines = {line.split("  ")[0]: line for line in said.splitlines()}
    assert lines["18 to 25"].count("█") == 24 + 12
    assert lines["18 to 25"].endswith("50.0%")
    assert "< 18" not in said, "bars of nothing are left out"
    assert "note: Not kept: `town`." in said
    assert "`age`: mean stayed." in said
    assert "shipway monitors show churn run-1 --html" in said


def test_a_run_that_failed_shows_why(capsys):
    show_run(failed(waiting(), message="It needs more memory.", now=NOW))
    assert capsys.readouterr().out == "drift of churn: error\nIt needs more memory.\n"


def test_lists_have_a_line_each_and_say_what_to_do_when_empty(capsys):
    last = ended()
    show_stands("churn", [MonitorStand(monitor=last.monitor, next_at=None, last=last)])
    show_runs("churn", "drift", [last, waiting()])
    said = capsys.readouterr().out
    assert "every 1h" in said
    assert said.count("firing") == 2
    assert "waiting" in said
    show_stands("churn", [])
    show_runs("churn", "drift", [])
    said = capsys.readouterr().out
    assert "capture: {}" in said
    assert "shipway monitors run churn drift" in said


def test_small_shares_and_gaps_can_be_seen():
    assert (bar_of(0.0), bar_of(0.001), bar_of(1.0)) == ("", "▏", "█" * 24)
    assert course_of(points(0.0, None, 1.0)) == "▁ █"
    assert course_of(()) == ""
