"""What is exported speaks of nothing that the pages of gateways and control do not have."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from shipway.cli.charts import lines_of, number_of, sparkline, svg_of
from shipway.cli.exports import scrape
from shipway.cli.exports.grafana import dashboards
from shipway.cli.exports.rules import BURNS, Thresholds, rules_of
from shipway.cli.main import app
from shipway.client.measuring import Measured, Point
from shipway.control import exposition
from shipway.core.measures import OF_SERVER
from shipway.core.promql import QUERIES
from shipway.gateway import metrics

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
RUNBOOKS = {
    "error-rate", "latency", "no-replicas", "overload", "rejections", "slo-burn", "gateway-down", "capture-loss",
    "drift", "quality", "performance", "monitor-failed", "stuck-rollout", "budget",
}  # fmt: skip
FAMILIES = {family.name: family for family in (*metrics.FAMILIES, *exposition.FAMILIES)}


def labels_of(series):
    """The labels of a series as pages have it; None when none has it."""
    for suffix, more in (("_bucket", {"le"}), ("_sum", set()), ("_count", set())):
        family = FAMILIES.get(series.removesuffix(suffix))
        if (
            series.endswith(suffix)
            and family is not None
            and family.kind in ("histogram", "summary")
        ):
            return {*family.labels, *more}
    family = FAMILIES.get(series)
    return None if family is None or family.kind == "histogram" else set(family.labels)


def unknown_in(query):
    """What a query asks for that no page has: series, and labels of series."""
    for series, selector in re.findall(r"(shipway_\w+)(?:\{([^}]*)\})?", query):
        labels = labels_of(series)
        if labels is None:
            yield series
            continue
        for label in re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", selector):
            if label not in labels:
                yield f"{series}.{label}"


def panels():
    for name, dashboard in dashboards().items():
        for panel in dashboard["panels"]:
            for target in panel["targets"]:
                yield pytest.param(target, id=f"{name}: {panel['title']}")


@pytest.mark.parametrize("target", list(panels()))
def test_panel_asks_for_what_the_pages_have(target):
    assert list(unknown_in(target["expr"])) == []
    assert "shipway_" in target["expr"]
    for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
        series = re.findall(r"shipway_\w+", target["expr"])
        assert any(label in labels_of(one) for one in series), label


def test_dashboards_are_as_grafana_imports_them():
    uids = set()
    for name, board in dashboards().items():
        assert name.endswith(".json")
        uids.add(board["uid"])
        assert board["schemaVersion"] >= 36
        assert {"title", "tags", "time", "refresh", "templating", "annotations"} <= board.keys()
        names = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?([a-z]+)\}?", str(board["panels"])))
        assert used <= names
        ids = [panel["id"] for panel in board["panels"]]
        assert len(ids) == len(set(ids))
        for panel in board["panels"]:
            assert panel["type"] in ("timeseries", "stat")
            assert {"title", "datasource", "gridPos", "fieldConfig", "options"} <= panel.keys()
            assert [one["refId"] for one in panel["targets"]] == ["A", "B", "C"][
                : len(panel["targets"])
            ]
    assert len(uids) == 2


def test_panels_lie_beside_each_other_and_not_on_each_other():
    for board in dashboards().values():
        taken = set()
        for panel in board["panels"]:
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            assert place["x"] + place["w"] <= 24
            taken |= cells


@pytest.mark.parametrize(
    "rule", rules_of(Thresholds()), ids=lambda rule: f"{rule.name} {rule.labels}"
)
def test_rule_asks_for_what_the_pages_have_and_has_a_runbook(rule):
    assert list(unknown_in(rule.expr)) == []
    assert rule.runbook in RUNBOOKS
    assert rule.severity in ("critical", "warning", "info")
    assert rule.summary.endswith(".")


@pytest.mark.parametrize("measure", QUERIES)
def test_query_of_a_measure_asks_for_what_the_pages_have(measure):
    query = QUERIES[measure].replace("$of", 'endpoint="e"')
    if measure in OF_SERVER:
        query = QUERIES[measure].replace("$of", "")
    assert list(unknown_in(query)) == []


def test_unknown_series_and_labels_would_be_found():
    query = (
        'rate(shipway_request_total[5m]) + shipway_replicas{stat="ready"} + shipway_request_seconds'
    )
    assert list(unknown_in(query)) == [
        "shipway_request_total",
        "shipway_replicas.stat",
        "shipway_request_seconds",
    ]


def test_burn_rates_are_those_of_the_workbook():
    # 2 % of a 30-day budget in 1 h, 5 % in 6 h, 10 % in 3 days.
    for (rate, long, *_), share in zip(BURNS, (0.02, 0.05, 0.10), strict=True):
        hours = int(long[:-1]) * (24 if long.endswith("d") else 1)
        assert rate == pytest.approx(share * 30 * 24 / hours)


def test_thresholds_are_in_the_rules():
    written = {rule.name: rule.expr for rule in rules_of(Thresholds(error_rate=0.2, p99_ms=50))}
    assert written["ShipwayErrorRate"].endswith("> 0.2")
    assert written["ShipwayLatency"].endswith("> 50")
    assert "> 0.0144" in next(rule.expr for rule in rules_of(Thresholds()) if rule.labels)


def test_rules_are_written_to_stdout_for_a_pipe():
    run = CliRunner().invoke(app, ["export", "prometheus-rules"])
    assert run.exit_code == 0
    (group,) = yaml.safe_load(run.stdout)["groups"]
    assert {rule["annotations"]["runbook_url"] for rule in group["rules"]} >= {
        "docs/runbooks/error-rate.md"
    }


def test_scrape_configuration_speaks_tls_where_the_server_does():
    made = scrape.document(
        ["https://10.0.0.1:8080"], "https://10.0.0.1:8090/",
        key_file="/k", ca_file="/ca.crt", rule_file="r.yml", interval="15s",
    )  # fmt: skip
    for job in made["scrape_configs"]:
        assert job["scheme"] == "https"
        assert job["tls_config"] == {"ca_file": "/ca.crt"}
        assert job["authorization"] == {"credentials_file": "/k"}
    assert made["scrape_configs"][1]["static_configs"] == [{"targets": ["10.0.0.1:8090"]}]


# Charts


def measured(values, unit="ms"):
    points = tuple(
        Point(at=NOW + timedelta(seconds=10 * place), value=value)
        for place, value in enumerate(values)
    )
    return Measured(
        endpoint="a<b", measure="p99_ms", unit=unit, since=NOW, until=NOW, step_s=10, points=points
    )


@given(st.lists(st.none() | st.floats(0, 1e12), max_size=100))
def test_any_course_has_a_chart_and_a_picture(values):
    course = measured(values)
    rows = list(lines_of(course))
    assert len(rows) == (10 if values else 9)
    assert all(len(row) <= 14 + max(len(values), 40) for row in rows)
    picture = svg_of(course)
    assert "nan" not in picture
    assert "a&lt;b" in picture


def test_highest_column_is_full_and_what_is_unknown_is_a_dot():
    rows = list(lines_of(measured([None, 4.0, 8.0])))
    assert rows[0].endswith("│  █")
    assert rows[7].endswith("│·██")


@pytest.mark.parametrize(
    ("values", "line"), [((0, 4, 8), "▁▄█"), ((0, 0), "▁▁"), ((), ""), ((1, 1), "██")]
)
def test_sparkline(values, line):
    assert sparkline(values) == line


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "-"),
        (0.0123, "ratio", "1.23 %"),
        (1234.5, "1/s", "1,234/s"),
        (2.0, "number", "2"),
    ],
)
def test_numbers_with_their_units(value, unit, text):
    assert number_of(value, unit) == text


def test_runbooks_named_here_are_pages_where_there_are_any():
    pages = Path(__file__).parents[2] / "docs" / "runbooks"
    missing = {rule.runbook for rule in rules_of(Thresholds())} - {
        p.stem for p in pages.glob("*.md")
    }
    assert not missing or not pages.is_dir()
