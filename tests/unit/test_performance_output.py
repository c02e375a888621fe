"""Live performance as tables and pictures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shipway.cli.performance import show_performance
from shipway.core import intervals
from shipway.core.errors import InvalidRequest
from shipway.core.fairness import SegmentCounts, fairness
from shipway.core.performance import (
    Bias,
    Business,
    By,
    Delay,
    Errors,
    Performance,
    Slice,
    classification,
    regression,
)
from shipway.monitoring.performance_chart import draw

DAY = datetime(2026, 3, 1, tzinfo=UTC)
ERRORS = Errors(
    n=9, mean=0, variance=1, size=1, size_variance=1, square=4, square_variance=1, truth_variance=8
)


def slice_of(n, **fields):
    scores = classification(80, 100, {("1", "1"): 60, ("0", "0"): 20, ("1", "0"): 20})
    delay = Delay(p50_s=7200, p90_s=9000, p99_s=9000)
    revenue = Business(metric="revenue", n=3, mean=intervals.mean(2, 1, 3), total=6)
    return Slice(version=n, role="primary", predictions=400, labelled=100, delay=delay,
                 classification=scores, outcomes=(revenue,), **fields)  # fmt: skip


def test_the_table_says_what_is_known_how_surely_and_what_is_not(capsys):
    counts = [SegmentCounts(segment=s, n=1000, selected=n) for s, n in (("a", 500), ("b", 300))]
    bias = Bias(version=1, role="primary", positive="1", rates=fairness(counts))
    note = "Of version 2, no output is kept that a truth could be compared with."
    show_performance(
        Performance(endpoint="churn", slices=(slice_of(1),), bias=(bias,), notes=(note,))
    )
    shown = capsys.readouterr().out
    for text in ("75.0 %", "2.0h", "0.8 (0.711", "revenue", "UNFAIR", note):
        assert text in shown, text


def test_regressions_and_parts_have_their_own_columns(capsys):
    plain = Slice(
        version=1, role="shadow", predictions=9, labelled=9, at=DAY, regression=regression(ERRORS)
    )
    show_performance(Performance(endpoint="e", slices=(), parts=(plain,), by=By.HOUR))
    shown = capsys.readouterr().out
    assert "RMSE" in shown
    assert "ACCURACY" not in shown
    assert "2026-03-01 00:00" in shown


def test_nothing_kept_is_said(capsys):
    show_performance(Performance(endpoint="churn", slices=()))
    assert "No predictions of `churn`" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["chart.svg", "chart.png"])
@pytest.mark.parametrize("by", [By.DAY, By.SEGMENT, None])
def test_it_is_drawn_and_equal_numbers_make_equal_pictures(tmp_path, name, by):
    parts = [slice_of(n, at=DAY + timedelta(days=d)) if by is By.DAY else slice_of(n, part=f"s{d}")
             for n in (1, 2) for d in range(3)]  # fmt: skip
    found = Performance(
        endpoint="churn", slices=tuple(parts[:1]), parts=tuple(parts) if by else (), by=by
    )
    pictures = []
    for directory in ("a", "b"):
        (tmp_path / directory).mkdir()
        draw(found, tmp_path / directory / name)
        pictures.append((tmp_path / directory / name).read_bytes())
    assert pictures[0] == pictures[1]
    start = b"<?xml" if name.endswith("svg") else b"\x89PNG"
    assert pictures[0].startswith(start)


def test_what_cannot_be_drawn_is_refused(tmp_path):
    found = Performance(endpoint="churn", slices=(slice_of(1),))
    for chart, path in (
        (found, tmp_path / "a.pdf"),
        (found, tmp_path / "nowhere" / "a.svg"),
        (Performance(endpoint="churn", slices=()), tmp_path / "a.svg"),
    ):
        with pytest.raises(InvalidRequest):
            draw(chart, path)
