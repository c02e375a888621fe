"""What people see of a rollout: the numbers that are there, and nothing that markup could break."""

import io
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from rich.console import Console

from shipway.cli import watching
from shipway.cli.endpoints import rollout_hint
from shipway.cli.rollouts import headline_of, picture_of
from shipway.cli.watching import Changes, watched
from shipway.client.answers import (
    OutcomeMeans,
    PairCounts,
    Rollout,
    RolloutLine,
    RolloutStep,
    Side,
)
from shipway.client.releasing import not_promoted
from shipway.core.errors import EndpointNotFound, ServerUnreachable
from shipway.core.guards import Finding, Verdict
from shipway.core.rollouts import Event, Moment, RolloutPhase

NOON = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
BEGUN = Moment(at=NOON, event=Event.READY, message="churn:2 is ready.", weight_pct=5)
ONWARD = Moment(
    at=NOON + timedelta(seconds=60), event=Event.ADVANCE, message="On to `25 %`.", weight_pct=25
)
FAILED = Finding(guard="latency", verdict=Verdict.FAIL, message="p95 31 ms, over 1.5 x 12 ms.")


def rollout(**fields):
    values = {
        "id": "churn-1",
        "endpoint": "churn",
        "phase": RolloutPhase.RUNNING,
        "primary": Side(version="churn:1", weight_pct=95, answered=950, p95_ms=12.0),
        "candidate": Side(version="churn:2", weight_pct=5, answered=50, failed=3, error_pct=5.66),
        "steps": (
            RolloutStep(label="canary 5 %", weight_pct=5, hold_s=60, state="now"),
            RolloutStep(label="canary 25 %", weight_pct=25, state="ahead", pause=True),
        ),
        "step": "canary 5 %",
        "elapsed_s": 12.0,
        "history": (BEGUN,),
    }
    return Rollout(**(values | fields))


def drawn(value, *, width=100):
    file = io.StringIO()
    Console(file=file, width=width).print(picture_of(value))
    return file.getvalue()


def test_a_picture_has_the_steps_both_versions_the_verdicts_and_what_happened():
    picture = drawn(rollout(findings=(FAILED,), message="On its way."))
    for part in (
        "churn:1 → churn:2",
        "running at canary 5 %, 12 s of 60 s",
        "◉ canary 5 %",
        "○ canary 25 % ⏸",
        "950",
        "3 (5.66 %)",
        "12",
        "latency",
        "fail",
        "over 1.5 x 12 ms",
        "12:00:00  ready",
        "On its way.",
    ):
        assert part in picture, part


def test_pairs_outcomes_answers_and_errors_are_shown_where_there_are_any():
    plain = drawn(rollout())
    for word in ("Pairs", "Outcome", "says", "failed last"):
        assert word not in plain
    side = Side(version="churn:2", labels={"leaves": 0.25}, score=0.5, last_error="it broke")
    full = drawn(
        rollout(
            candidate=side,
            pairs=PairCounts(compared=40, disagreement_pct=2.5, median_delay_ms=-1.5, dropped=7),
            outcomes=(OutcomeMeans(metric="sold", primary_n=9, candidate_n=8, candidate_mean=1),),
        )
    )
    for part in (
        "40 compared, 2.5 % differ",
        "-1.5 ms",
        "7 not copied",
        "Outcome sold",
        "1 of 8",
        "leaves 25.0 %, median 0.5",
        "failed last with: it broke",
    ):
        assert part in full, part


def test_what_models_and_people_write_is_never_markup():
    nasty = "[/bold] [red] [link=x]"
    finding = msgspec.structs.replace(FAILED, message=nasty)
    side = Side(version="churn:2", labels={nasty: 1.0}, last_error=nasty)
    picture = drawn(rollout(message=nasty, findings=(finding,), candidate=side), width=200)
    assert picture.count(nasty) == 4


@pytest.mark.parametrize("phase", list(RolloutPhase))
@pytest.mark.parametrize("width", [20, 80])
def test_every_phase_can_be_drawn_on_any_terminal(phase, width):
    value = rollout(phase=phase, findings=(FAILED,))
    assert phase.value.replace("_", " ") in " ".join(drawn(value, width=width).split())
    assert phase.value.replace("_", " ") in headline_of(value)


def test_a_step_that_was_left_for_good_is_crossed():
    assert "✗ canary 5 %" in drawn(rollout(phase=RolloutPhase.ROLLED_BACK))
    assert "✗" not in drawn(rollout())


def test_the_line_of_an_endpoint_says_where_its_rollout_stands_and_how_to_follow_it():
    line = RolloutLine(
        id="x", candidate="churn:2", phase=RolloutPhase.PAUSED, step="canary 5 %", weight_pct=5
    )
    said = rollout_hint("churn", line)
    assert "churn:2, paused at `canary 5 %` (5 %)" in said
    assert "shipway rollout watch churn" in said


def test_without_a_terminal_each_change_is_told_once(capsys):
    changes = Changes(None)
    running = msgspec.structs.replace(FAILED, verdict=Verdict.RUNNING)
    first = rollout(findings=(running,))
    changes.show(first, "")
    assert capsys.readouterr().out.count("\n") == 3
    changes.show(msgspec.structs.replace(first, elapsed_s=13.0), "")
    assert capsys.readouterr().out == ""
    changes.show(msgspec.structs.replace(first, history=(BEGUN, ONWARD)), "")
    assert "On to `25 %`." in capsys.readouterr().out
    changes.show(first, "away")
    changes.show(first, "away")
    assert capsys.readouterr().out == "away\n"
    changes.show(rollout(phase=RolloutPhase.ROLLED_BACK, findings=(FAILED,)), "")
    last = capsys.readouterr().out
    assert "guard latency: fail" in last
    assert "rolled back" in last
    assert "Control answers again." in last


class Scripted:
    """A client whose answers are given; an error is raised."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def rollout(self, endpoint, rollout_id=None):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


AWAY = ServerUnreachable("No server.")
DONE = rollout(phase=RolloutPhase.PROMOTED)


@pytest.fixture
def at_once(monkeypatch):
    monkeypatch.setattr(watching, "_POLL_S", 0.0)


@pytest.mark.usefixtures("at_once")
def test_watching_outlasts_a_control_that_is_away_for_a_while(capsys):
    client = Scripted(rollout(), AWAY, AWAY, rollout(), DONE)
    assert watched(client, "churn", rollout_id=None, as_json=False) == DONE
    said = capsys.readouterr().out
    assert said.count("Control does not answer") == 1
    assert said.index("Control does not answer") < said.index("promoted")


@pytest.mark.usefixtures("at_once")
def test_watching_ends_when_control_stays_away_or_the_endpoint_is_gone(monkeypatch):
    with pytest.raises(ServerUnreachable):
        watched(Scripted(AWAY), "churn", rollout_id=None, as_json=False)
    gone = EndpointNotFound("Gone.")
    with pytest.raises(EndpointNotFound):
        watched(Scripted(rollout(), gone), "churn", rollout_id=None, as_json=False)
    monkeypatch.setattr(watching, "_PATIENCE_S", -1.0)
    with pytest.raises(ServerUnreachable):
        watched(Scripted(rollout(), AWAY), "churn", rollout_id=None, as_json=False)


@pytest.mark.usefixtures("at_once")
def test_in_json_each_change_is_one_line_and_the_last_one_is_the_end(capsys):
    client = Scripted(rollout(), rollout(elapsed_s=13.0), AWAY, rollout(), DONE)
    watched(client, "churn", rollout_id=None, as_json=True)
    lines = [msgspec.json.decode(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["phase"] for line in lines] == ["running", "promoted"]


def test_the_error_of_a_rollback_names_the_guard_and_its_numbers():
    error = not_promoted(
        rollout(phase=RolloutPhase.ROLLED_BACK, findings=(FAILED,), message="`latency`: 31 ms.")
    )
    assert "was rolled back: `latency`: 31 ms." in error.message
    assert error.details == {"phase": "rolled_back", "guard": "latency", "rollout": "churn-1"}
