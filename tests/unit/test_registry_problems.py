from __future__ import annotations

from collections.abc import Iterator

import msgspec
import pytest

from shipway.core.errors import QueueFull, ShipwayError, VersionNotFound
from shipway.wire.problems import STATUS_OF, problem_of, status_of


def classes(kind: type[ShipwayError] = ShipwayError) -> Iterator[type[ShipwayError]]:
    yield kind
    for child in kind.__subclasses__():
        if child.__module__.startswith("shipway."):
            yield from classes(child)


def test_every_error_class_has_a_status_of_its_own() -> None:
    assert {kind.code for kind in classes()} == set(STATUS_OF)


def test_class_without_a_status_has_its_parents() -> None:
    class Unlisted(VersionNotFound):
        code = "unlisted"

    assert status_of(Unlisted("m")) == 404


def test_problem_holds_the_members_of_rfc_9457_and_the_errors_own_facts() -> None:
    error = VersionNotFound.named("churn:3", ["churn:2"], next_step="Look.")
    problem = problem_of(error)
    assert problem.status == 404
    assert msgspec.json.decode(problem.body) == {
        "type": "urn:shipway:error:version_not_found",
        "title": "Version not found",
        "status": 404,
        "detail": "There is no model version `churn:3`. Did you mean `churn:2`?",
        "code": "version_not_found",
        "next_step": "Look.",
        "name": "churn:3",
        "nearest": "churn:2",
    }


@pytest.mark.parametrize(("wait_s", "header"), [(0.2, "1"), (1.5, "2"), (3, "3")])
def test_full_queue_says_when_to_come_back(wait_s: float, header: str) -> None:
    problem = problem_of(QueueFull("full", retry_after_s=wait_s))
    assert (problem.status, problem.headers) == (429, {"retry-after": header})


def test_details_cannot_hide_the_members_of_the_standard() -> None:
    body = msgspec.json.decode(problem_of(ShipwayError("m", status=1, code="x")).body)
    assert (body["status"], body["code"]) == (500, "error")
