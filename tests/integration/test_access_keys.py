"""The keys of state directories in a database that several servers share."""

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import pytest

from shipway.control.access import LOCAL_KEYS, Access, KeyRequest
from shipway.core.access import ANYBODY, Binding, Grant, Role
from shipway.core.errors import ConflictError, StoreUnavailable, Unauthenticated
from shipway.store.api_keys import ADMIN, kept_key, new_key_text
from shipway.store.sql.database import Database, sqlite_url

NOW = datetime(2026, 11, 26, tzinfo=UTC)


@pytest.fixture
def database(tmp_path):
    made = Database.open(sqlite_url(tmp_path))
    yield made
    made.close()


def told(access, text):
    access.ensure_local({ADMIN: (text, LOCAL_KEYS[ADMIN])}, NOW)


def is_known(access, text):
    try:
        return access.identified(f"Bearer {text}".encode(), "", NOW).name == ADMIN
    except Unauthenticated:
        return False


def test_a_new_file_takes_the_old_key_away_and_leaves_other_environments_theirs(database):
    dev, production = (Access(database, environment=name) for name in ("dev", "production"))
    first, second, other = (new_key_text() for _ in range(3))
    told(dev, first)
    told(production, other)
    assert (is_known(dev, first), is_known(production, other)) == (True, True)
    told(dev, second)
    assert (is_known(dev, first), is_known(dev, second), is_known(dev, other)) == (
        False,
        True,
        True,
    )


def test_telling_of_a_key_again_changes_nothing(database):
    access, text = Access(database, environment="dev"), new_key_text()
    told(access, text)
    before = access.keys(ANYBODY, NOW)
    told(access, text)
    assert access.keys(ANYBODY, NOW) == before


def test_local_keys_are_revoked_by_their_file_alone(database):
    access = Access(database, environment="dev")
    told(access, new_key_text())
    (key,) = access.keys(ANYBODY, NOW)
    with pytest.raises(ConflictError, match="state directory"):
        access.revoke(key.id, ANYBODY, actor="ada", now=NOW)


def test_a_key_dies_at_its_hour_and_its_successor_lives_as_long_as_it_did(database):
    access = Access(database, environment="dev")
    wanted = KeyRequest(name="ci", grants=(Grant(role=Role.VIEWER),), expires_in_s=3600)
    made = access.create(wanted, ANYBODY, actor="ada", now=NOW)
    half = NOW + timedelta(minutes=30)
    overlap = timedelta(minutes=5)
    later = access.rotate(made.id, ANYBODY, overlap=overlap, actor="ada", now=half)
    assert later.expires_at == half + timedelta(hours=1)
    ends = {key.id: key.expires_at for key in access.keys(ANYBODY, half)}
    assert ends[made.id] == half + overlap


def test_a_full_disk_does_not_turn_callers_away(database, monkeypatch):
    access, text = Access(database, environment="dev"), new_key_text()
    told(access, text)

    @contextmanager
    def full():
        raise StoreUnavailable("The disk is full.")
        yield

    monkeypatch.setattr(database, "transaction", full)
    assert is_known(access, text)


def test_of_two_who_change_a_subject_at_once_one_is_told(database):
    access = Access(database, environment="dev")
    viewer, invoker = (Grant(role=role) for role in (Role.VIEWER, Role.INVOKER))

    def bound(*grants, before):
        wanted = Binding(subject="user:ada", grants=grants)
        return access.bind(wanted, ANYBODY, before=before, actor="eve", now=NOW)

    bound(viewer, before=())
    with pytest.raises(ConflictError, match="changed meanwhile"):
        bound(invoker, before=())
    bound(viewer, invoker, before=(viewer,))
    assert access.bindings(ANYBODY)[0].grants == (viewer, invoker)


def test_processes_that_make_the_same_file_get_the_same_key(tmp_path):
    first = kept_key(tmp_path, ADMIN, new_key_text())
    assert kept_key(tmp_path, ADMIN, new_key_text()) == first
