"""Following rollouts in the SDK: flows with scripted answers, no server and no sleep."""

import io
from pathlib import Path

import msgspec
import pytest

from shipway.cli.outcomes import outcomes_in
from shipway.client import flows, releasing
from shipway.client.answers import Change, Counted, Endpoint, Rollout, Side
from shipway.client.discovery import Addresses
from shipway.client.exchange import Call, Pause, Run
from shipway.client.flows import Waiting
from shipway.client.releasing import Outcome
from shipway.client.session import Session
from shipway.core.endpoints import Phase
from shipway.core.errors import (
    DeadlineExceeded,
    DeployFailed,
    InvalidRequest,
    NotPromoted,
    RolloutNotFound,
    ServerUnreachable,
)
from shipway.core.rollouts import RolloutPhase


def rollout(phase=RolloutPhase.RUNNING, id="one"):  # noqa: A002
    sides = {"primary": Side(version="m:1"), "candidate": Side(version="m:2")}
    return Rollout(id=id, endpoint="m", phase=phase, message="Why.", **sides)


def endpoint(phase, active="m:1", target=None):
    return Endpoint(name="m", phase=phase, active=active, target=target, message="Why.")


def session():
    return Session(Addresses(control_url="http://x", gateway_url="http://y"))


def driven(flow, *answers, calls=None):
    """The flow's result with these answers to its calls; pauses pass at once."""
    run, left = Run(flow), list(answers)
    while run.step is not None:
        if isinstance(run.step, Pause):
            run.tell(None)
            continue
        assert isinstance(run.step, Call)
        if calls is not None:
            calls.append(run.step)
        answer = left.pop(0)
        if isinstance(answer, Exception):
            run.fail(answer)
        else:
            run.tell(answer)
    assert not left
    return run.result


PROMOTED = rollout(RolloutPhase.PROMOTED)
LIVE = endpoint(Phase.LIVE, active="m:2")
AWAY = ServerUnreachable("No server.")


def test_waiting_ends_once_it_is_promoted_and_routed_to():
    switching = endpoint(Phase.STARTING, active="m:2")
    flow = releasing.ended(session(), "m", timeout_s=60)
    assert driven(flow, rollout(), PROMOTED, switching, LIVE) == PROMOTED


def test_waiting_outlasts_a_control_that_is_away():
    flow = releasing.ended(session(), "m", timeout_s=60)
    assert driven(flow, rollout(), AWAY, AWAY, PROMOTED, LIVE) == PROMOTED


def test_waiting_for_a_server_that_never_answered_is_an_error_at_once():
    with pytest.raises(ServerUnreachable):
        driven(releasing.ended(session(), "m", timeout_s=60), AWAY)


@pytest.mark.parametrize(
    "phase",
    [
        RolloutPhase.ROLLED_BACK,
        RolloutPhase.ABORTED,
        RolloutPhase.SUPERSEDED,
        RolloutPhase.FAILED,
    ],
)
def test_every_other_end_is_an_error_that_names_the_phase(phase):
    with pytest.raises(NotPromoted, match=r"Why\.") as caught:
        driven(releasing.ended(session(), "m", timeout_s=60), rollout(), rollout(phase))
    assert caught.value.details["phase"] == phase.value
    assert isinstance(caught.value, DeployFailed)


def test_one_that_was_superseded_is_found_behind_its_successor():
    ended = rollout(RolloutPhase.SUPERSEDED)
    successor = rollout(id="two")
    flow = releasing.ended(session(), "m", timeout_s=60)
    with pytest.raises(NotPromoted, match="superseded"):
        driven(flow, rollout(), successor, (successor, ended))


def test_an_id_that_is_not_there_is_not_found():
    with pytest.raises(RolloutNotFound, match="three"):
        driven(releasing.found("m", "three"), rollout(), (rollout(),))


def test_waiting_ends_in_time_and_says_where_it_stands():
    with pytest.raises(DeadlineExceeded, match="paused"):
        driven(releasing.ended(session(), "m", timeout_s=0), rollout(RolloutPhase.PAUSED))


def changed(*answers, target="m:2"):
    asked = Change(endpoint=endpoint(Phase.STARTING, target=target))
    call = Call(method="POST", path="/", read=lambda answer: answer)
    return driven(flows.changed(session(), call, Waiting()), asked, *answers)


@pytest.mark.parametrize("phase", [Phase.LIVE, Phase.RELEASING])
def test_a_deploy_is_done_once_its_version_is_live_or_its_rollout_has_begun(phase):
    found = endpoint(phase, active="m:2") if phase is Phase.LIVE else endpoint(phase, target="m:2")
    assert changed(endpoint(Phase.STARTING, target="m:2"), found).endpoint == found


def test_a_deploy_whose_version_was_given_up_meanwhile_is_no_success():
    with pytest.raises(NotPromoted, match=r"serves m:1, not m:2\. Why\."):
        changed(endpoint(Phase.LIVE))
    with pytest.raises(NotPromoted, match="not m:2"):
        changed(endpoint(Phase.RELEASING, target="m:3"))


def outcomes(count):
    return ({"metric": "sold", "value": n, "version": 2, "id": str(n)} for n in range(count))


def test_any_number_of_outcomes_is_posted_in_requests_that_the_server_takes():
    calls = []
    answers = [Counted(counted=900, known=100), Counted(counted=1000), Counted(unmatched=1)]
    total = driven(releasing.posted("m", outcomes(2001)), *answers, calls=calls)
    assert total == Counted(counted=1900, known=100, unmatched=1)
    sent = [one for call in calls for one in msgspec.json.decode(call.body)]
    assert [one["id"] for one in sent] == [str(n) for n in range(2001)]
    assert {one["version"] for one in sent} == {"2"}
    assert max(len(call.body) for call in calls) < 1024 * 1024


def test_no_outcome_makes_no_request():
    assert driven(releasing.posted("m", [])) == Counted()


def test_outcomes_may_be_structs_and_leave_out_what_they_do_not_have():
    calls = []
    one = Outcome(metric="sold", value=2.5, key="ann")
    driven(releasing.posted("m", [one]), Counted(counted=1), calls=calls)
    assert msgspec.json.decode(calls[0].body) == [{"metric": "sold", "value": 2.5, "key": "ann"}]


@pytest.mark.parametrize(
    "bad", [{"metric": "x"}, {"value": 1}, {"metric": "x", "value": "much"}, 7, {"metirc": "x"}]
)
def test_an_outcome_that_cannot_be_read_is_named_by_its_number(bad):
    with pytest.raises(InvalidRequest, match="Outcome 2 cannot be read"):
        driven(releasing.posted("m", [{"metric": "x", "value": 1}, bad]))


def test_outcomes_come_from_a_file_or_stdin_line_by_line(tmp_path, monkeypatch):
    text = '{"metric": "x", "value": 1}\n\n{"metric": "y", "value": 2}\n'
    file = tmp_path / "events.jsonl"
    file.write_text(text)
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    for source in (file, Path("-")):
        assert [one["metric"] for one in outcomes_in(source)] == ["x", "y"]


@pytest.mark.parametrize("line", ["{", "[1]", "seven", '{"a": 1} {"b": 2}'])
def test_a_line_that_is_no_outcome_is_refused_by_its_number(tmp_path, line):
    file = tmp_path / "events.jsonl"
    file.write_text('{"metric": "x", "value": 1}\n' + line + "\n")
    with pytest.raises(InvalidRequest, match="Line 2 of"):
        list(outcomes_in(file))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(outcomes_in(tmp_path / "absent"))
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(outcomes_in(tmp_path / "bytes"))
