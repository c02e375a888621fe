"""Rights, roles and scopes: who may do what."""

import string
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.access import (
    RIGHTS_OF,
    SERVER,
    Grant,
    Kind,
    Principal,
    PrincipalKind,
    Resource,
    Right,
    Role,
    checked_grant,
    may_grant,
    permits,
    project_of,
    sees,
    siblings,
)
from shipway.core.attempts import MAX_SOURCES, MOST, WINDOW_S, Attempts
from shipway.core.errors import ConflictError, InvalidSpec
from shipway.core.keys import Key, read_key, revoked, rotated, written

NOW = datetime(2026, 11, 26, tzinfo=UTC)
NAMES = st.text(string.ascii_lowercase, min_size=1, max_size=3)
PATTERNS = st.one_of(st.just("*"), NAMES, NAMES.map(lambda name: f"{name}*"))
GRANTS = st.builds(
    Grant, role=st.sampled_from(Role), project=PATTERNS, environment=PATTERNS, model=PATTERNS,
    endpoint=PATTERNS,
)  # fmt: skip
DOTTED = st.builds(lambda project, name: f"{project}.{name}", NAMES, NAMES)
RESOURCES = st.one_of(
    st.just(SERVER),
    st.builds(Resource, st.just(Kind.ENVIRONMENT), NAMES),
    st.builds(Resource, st.sampled_from([Kind.MODEL, Kind.ENDPOINT]), DOTTED, NAMES),
)


def holder(*grants):
    return Principal(name="ada", kind=PrincipalKind.KEY, grants=grants)


def endpoint(name, environment="prod"):
    return Resource(Kind.ENDPOINT, name, environment)


def test_only_invoker_asks_for_predictions_and_only_gateway_serves():
    givers = {right: {role for role in Role if right in RIGHTS_OF[role]} for right in Right}
    assert givers[Right.INVOKE] == {Role.INVOKER}
    assert givers[Right.SERVE] == {Role.GATEWAY}
    assert givers[Right.ADMINISTER] == {Role.ADMIN}
    assert givers[Right.APPROVE] == {Role.APPROVER, Role.ADMIN}


@pytest.mark.parametrize(
    ("scope", "resource", "is_permitted"),
    [
        ({}, endpoint("churn"), True),
        ({}, SERVER, True),
        ({"project": "default"}, endpoint("churn"), True),
        ({"project": "cards"}, endpoint("churn"), False),
        ({"project": "cards"}, endpoint("cards.fraud"), True),
        ({"project": "card"}, endpoint("cards.fraud"), False),
        ({"project": "card*"}, endpoint("cards.fraud"), True),
        ({"project": "cards"}, SERVER, False),
        ({"project": "cards"}, Resource(Kind.ENVIRONMENT, "prod"), False),
        ({"environment": "dev"}, endpoint("churn"), False),
        ({"environment": "dev"}, endpoint("churn", "dev"), True),
        ({"environment": "dev"}, Resource(Kind.MODEL, "churn"), True),
        ({"environment": "dev"}, Resource(Kind.MODEL, "churn", "prod"), False),
        ({"environment": "dev"}, Resource(Kind.ENVIRONMENT, "dev"), True),
        ({"environment": "dev"}, Resource(Kind.ENVIRONMENT, "prod"), False),
        ({"model": "churn"}, Resource(Kind.MODEL, "churn"), True),
        ({"model": "churn"}, Resource(Kind.MODEL, "churn2"), False),
        ({"model": "churn"}, endpoint("churn"), False),
        ({"endpoint": "churn-*"}, endpoint("churn-eu"), True),
        ({"endpoint": "churn-*"}, endpoint("churn"), False),
        ({"endpoint": "churn"}, Resource(Kind.MODEL, "churn"), False),
    ],
)
def test_scopes(scope, resource, is_permitted):
    assert permits(holder(Grant(role=Role.ADMIN, **scope)), Right.READ, resource) == is_permitted


@given(GRANTS, GRANTS, st.sampled_from(Right), RESOURCES)
def test_nobody_can_grant_what_reaches_beyond_what_they_administer(own, wanted, right, resource):
    """Whatever the new grant permits lies within what its giver administers."""
    if may_grant(holder(own), wanted) and permits(holder(wanted), right, resource):
        assert permits(holder(own), Right.ADMINISTER, resource)


@given(GRANTS, st.sampled_from(Right), RESOURCES)
def test_what_is_permitted_may_be_known_of(grant, right, resource):
    if permits(holder(grant), right, resource):
        assert sees(holder(grant), resource)


def test_a_gateway_key_is_made_by_who_administers_everything():
    assert may_grant(holder(Grant(role=Role.ADMIN)), Grant(role=Role.GATEWAY))
    part = Grant(role=Role.ADMIN, project="cards")
    assert not may_grant(holder(part), Grant(role=Role.GATEWAY, project="cards"))


def test_suggestions_stay_in_the_project():
    assert siblings("cards.fruad", ["cards.fraud", "loans.fraud", "churn"]) == ["cards.fraud"]
    assert siblings("chrun", ["cards.fraud", "churn"]) == ["churn"]
    assert project_of("cards.eu.fraud") == "cards"


@pytest.mark.parametrize("pattern", ["", "*x", "a*b", "a**", "a\nb", "x" * 64])
def test_malformed_scopes_are_refused(pattern):
    with pytest.raises(InvalidSpec):
        checked_grant(Grant(role=Role.VIEWER, project=pattern))


def key(**fields):
    fields = {"expires_at": None, **fields}
    return Key(
        id="a" * 12, name="ci", grants=(), created_at=NOW, created_by="ada", digest="", **fields
    )


def test_a_rotated_key_is_good_for_the_overlap_and_never_longer_than_it_was():
    hour, day = timedelta(hours=1), timedelta(days=1)
    ending = rotated(key(), replaced_by="b" * 12, until=NOW + day, now=NOW)
    assert (ending.is_good(NOW + hour), ending.is_good(NOW + day)) == (True, False)
    short = rotated(key(expires_at=NOW + hour), replaced_by="b", until=NOW + day, now=NOW)
    assert short.expires_at == NOW + hour
    with pytest.raises(ConflictError):
        rotated(ending, replaced_by="c", until=NOW + day, now=NOW)
    with pytest.raises(ConflictError):
        rotated(revoked(key(), NOW), replaced_by="c", until=NOW + day, now=NOW)


def test_revoking_twice_keeps_the_first_time():
    once = revoked(key(), NOW)
    assert revoked(once, NOW + timedelta(days=1)) == once
    assert not once.is_good(NOW)


@given(st.text(max_size=80))
def test_only_whole_keys_are_read(text):
    assert read_key(text) is None or text.startswith("shipway_")


def test_a_written_key_is_read_again_and_nothing_near_it():
    text = written("a2b3c4d5e6f7", "s" * 43)
    assert read_key(text).id == "a2b3c4d5e6f7"
    for other in (text[:-1], f"{text}x", f" {text}", text.upper(), text.replace("_", "-")):
        assert read_key(other) is None


def test_a_source_waits_after_so_many_failures_and_others_do_not():
    attempts = Attempts()
    for _ in range(MOST):
        assert attempts.wait_s("10.0.0.1", b"guess", 100.0) == 0
        attempts.note_failure("10.0.0.1", 100.0)
    assert attempts.wait_s("10.0.0.1", b"guess", 100.0) == WINDOW_S
    assert attempts.wait_s("10.0.0.2", b"guess", 100.0) == 0
    assert attempts.wait_s("10.0.0.1", b"guess", 100.0 + WINDOW_S) == 0
    attempts.note_failure("10.0.0.1", 100.0 + WINDOW_S)
    assert attempts.wait_s("10.0.0.1", b"guess", 100.0 + WINDOW_S) == 0


def test_a_credential_that_was_good_is_examined_whatever_others_do_wrong_from_there():
    attempts = Attempts()
    attempts.note_success(b"good")
    for _ in range(MOST):
        attempts.note_failure("127.0.0.1", 100.0)
    assert attempts.wait_s("127.0.0.1", b"guess", 100.0) > 0
    assert attempts.wait_s("127.0.0.1", b"good", 100.0) == 0


def test_a_million_sources_are_counted_in_bounded_memory():
    attempts = Attempts()
    for number in range(3 * MAX_SOURCES):
        attempts.note_failure(str(number), 100.0)
    assert len(attempts._failed) <= MAX_SOURCES + 1
    assert attempts.wait_s("a new one", b"guess", 100.0) > 0  # it shares the count of those beyond
    assert attempts.wait_s("a new one", b"guess", 100.0 + WINDOW_S) == 0
