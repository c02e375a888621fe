import inspect
import subprocess
import sys

import msgspec
import pytest

import shipway
from shipway.client.asynchronous import AsyncClient
from shipway.client.exchange import Answer, Pause, Plane, Run, Work
from shipway.client.faults import error_from
from shipway.client.synchronous import Client
from shipway.core import errors
from shipway.core.errors import ShipwayError
from shipway.wire.problems import STATUS_OF, problem_of


def tree(kind=ShipwayError):
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.mark.parametrize("kind", list(tree()), ids=lambda kind: kind.__name__)
def test_an_error_that_crosses_http_arrives_as_itself(kind):
    sent = kind("It broke.", next_step="Mend it.", column="age", row=3)
    problem = problem_of(sent)
    answer = Answer(status=problem.status, headers=problem.headers, body=problem.body)
    arrived = error_from(answer, Plane.CONTROL)
    assert type(arrived) is kind
    assert (arrived.message, arrived.next_step) == ("It broke.", "Mend it.")
    assert arrived.details == {"column": "age", "row": 3}


def test_open_inference_errors_keep_code_and_details():
    body = b'{"error": "Value 200 is over 120.", "code": "invalid_input", "details": {"row": 4}}'
    error = error_from(Answer(status=422, headers={}, body=body), Plane.GATEWAY)
    assert type(error) is errors.InvalidInput
    assert error.details == {"row": 4}


@pytest.mark.parametrize(
    ("status", "plane", "kind"),
    [
        (400, Plane.GATEWAY, errors.InvalidRequest),
        (404, Plane.GATEWAY, errors.NotFound),
        (413, Plane.GATEWAY, errors.BodyTooLarge),
        (429, Plane.GATEWAY, errors.QueueFull),
        (500, Plane.GATEWAY, errors.ModelFailed),
        (500, Plane.CONTROL, errors.Bug),
        (503, Plane.GATEWAY, errors.NoReadyReplica),
        (503, Plane.CONTROL, errors.StoreUnavailable),
        (504, Plane.GATEWAY, errors.DeadlineExceeded),
        (418, Plane.CONTROL, errors.CallerError),
    ],
)
def test_an_answer_of_something_else_is_read_by_its_status(status, plane, kind):
    error = error_from(Answer(status=status, headers={}, body=b"<html>no</html>"), plane)
    assert type(error) is kind


def test_retry_after_reaches_the_details():
    answer = Answer(status=429, headers={"retry-after": "3"}, body=b"")
    assert error_from(answer, Plane.GATEWAY).details["retry_after_s"] == 3


def test_every_error_has_a_status_of_its_own_or_its_parents():
    assert {kind.code for kind in tree()} <= set(STATUS_OF)


def flow_that_recovers(seen):
    try:
        seen.append((yield Pause(0.0)))
        yield Work(lambda: None)
    except errors.NotFound:
        return "recovered"
    finally:
        seen.append("closed")
    return "done"


def test_a_flow_hears_results_and_errors_and_is_closed_when_abandoned():
    seen = []
    run = Run(flow_that_recovers(seen))
    run.tell("first")
    run.fail(errors.NotFound("gone"))
    assert (run.step, run.result, seen) == (None, "recovered", ["first", "closed"])

    abandoned = []
    Run(flow_that_recovers(abandoned)).close()
    assert abandoned == ["closed"]


def test_sync_and_async_clients_offer_the_same():
    def surface(kind, renamed):
        return {
            renamed.get(name, name): list(inspect.signature(member).parameters)
            for name, member in inspect.getmembers(kind, inspect.isfunction)
            if not name.startswith("_")
        }

    sync, other = surface(Client, {}), surface(AsyncClient, {"aclose": "close"})
    assert other.pop("gateway_url") == ["self"]
    assert sync == other


def test_importing_shipway_loads_nothing():
    code = "import sys, shipway; print([m for m in sys.modules if m.startswith('shipway.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert shipway.Client is Client
    with pytest.raises(AttributeError, match="Cleint"):
        _ = shipway.Cleint


def test_problem_bodies_are_json():
    assert msgspec.json.decode(problem_of(errors.Bug("x")).body)["code"] == "bug"
