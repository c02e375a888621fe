"""The audit chain on SQLite and PostgreSQL: tampering is found, and nothing short of it breaks the chain."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipway.control.audit import AuditLog
from shipway.control.environments import Environments
from shipway.control.pruning import Pruning
from shipway.control.seals import Seals
from shipway.core.audit import AuditQuery, Change, next_event
from shipway.core.denials import Denial
from shipway.core.errors import ConflictError, NotFound, StateUnusable
from shipway.core.verification import ChainVerdict
from shipway.store.exports import verdict_of_file
from shipway.store.keys import AuditKeys, read_public_key
from shipway.store.sql.audit import ORIGIN
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.sql.tables import audit as audit_table
from shipway.store.sql.tables import audit_cuts, audit_heads

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
SCRIPT = Path(__file__).parent / "signing.py"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return sqlite_url(tmp_path / "state")
    new_database: Callable[[], str] = request.getfixturevalue("new_postgresql_database")
    return new_database()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    opened = Database.open(url)
    yield opened
    opened.close()


@pytest.fixture
def seals(database: Database, tmp_path: Path) -> Seals:
    made = Seals(database, tmp_path / "state")
    made.sign(now=NOW)
    return made


def append(database: Database, count: int = 1, **fields: Any) -> None:
    for number in range(count):
        given: dict[str, Any] = {"action": "alias.set", "subject": "churn@champion", **fields}
        details = given.pop("details", {"before": number, "after": number + 1})
        with database.transaction() as tx:
            tx.audit.append(Change(**{"at": NOW, "actor": "ada", "details": details, **given}))


def rows_of(database: Database, table: sa.Table) -> list[dict[str, Any]]:
    with database._engine.begin() as connection:
        return [dict(row._mapping) for row in connection.execute(sa.select(table))]


def put_rows(database: Database, table: sa.Table, rows: list[dict[str, Any]]) -> None:
    """What an attacker does who can write to the database."""
    with database._engine.begin() as connection:
        connection.execute(sa.delete(table))
        if rows:
            connection.execute(sa.insert(table), rows)


def broken_at(verdict: ChainVerdict) -> int:
    assert not verdict.holds
    assert verdict.broken is not None
    return verdict.broken.sequence


OTHER_VALUES: dict[str, Any] = {
    "at": NOW + timedelta(microseconds=1),
    "actor": "eve",
    "action": "alias.delete",
    "subject": "fraud@champion",
    "details": "{}",
    "origin": "10.6.6.6",
    "previous_hash": "1" * 64,
    "hash": "2" * 64,
}


def tampering(data: st.DataObject, rows: list[dict[str, Any]]) -> int:
    """Does one thing to the rows of 6 events, and says at which event that must be found."""
    place = data.draw(st.integers(0, 5))
    match data.draw(st.sampled_from(["change", "remove", "swap", "cut off", "rewrite"])):
        case "change":
            field = data.draw(st.sampled_from(sorted(OTHER_VALUES)))
            rows[place][field] = OTHER_VALUES[field]
        case "remove":
            del rows[place]
        case "swap":
            place = min(place, 4)
            other = data.draw(st.integers(place + 1, 5))
            rows[place]["sequence"], rows[other]["sequence"] = other + 1, place + 1
        case "cut off":
            del rows[place:]
        case "rewrite":
            rewrite(rows, place)
            return 6 if place > 3 else 4  # heads are of events 0, 4 and 6
    return place + 1


def rewrite(rows: list[dict[str, Any]], place: int) -> None:
    last = None
    for number, row in enumerate(rows):
        fields = {name: row[name] for name in Change.__struct_fields__}
        fields["details"] = msgspec.json.decode(row["details"])
        fields["actor"] = "eve" if number >= place else row["actor"]
        fields["at"] = row["at"]
        last = next_event(Change(**fields), last)
        rows[number] = {**row, **msgspec.structs.asdict(last), "details": row["details"]}


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_whatever_is_done_to_the_rows_is_found_at_the_first_bad_link(
    database: Database, seals: Seals, data: st.DataObject
) -> None:
    if not rows_of(database, audit_table):
        append(database, 4)
        seals.sign(now=NOW)
        append(database, 2, origin="10.0.0.7")
        seals.sign(now=NOW)
        assert seals.verify().signed_through == 6
    whole = sorted(rows_of(database, audit_table), key=lambda row: row["sequence"])
    rows = [dict(row) for row in whole]
    sequence = tampering(data, rows)
    put_rows(database, audit_table, rows)
    try:
        assert broken_at(seals.verify()) == sequence
    finally:
        put_rows(database, audit_table, whole)
    assert seals.verify().holds


def test_cutting_off_events_with_their_heads_is_found_by_the_file(
    database: Database, seals: Seals
) -> None:
    append(database, 2)
    seals.sign(now=NOW)
    append(database, 2)
    seals.sign(now=NOW)
    put_rows(
        database, audit_table, [r for r in rows_of(database, audit_table) if r["sequence"] < 3]
    )
    heads = [row for row in rows_of(database, audit_heads) if row["sequence"] < 3]
    put_rows(database, audit_heads, heads)
    verdict = seals.verify()
    assert broken_at(verdict) == 4
    assert verdict.broken is not None
    assert "head 3 of event 4" in verdict.broken.reason
    # Going on does not cover it up: neither a new start nor new events and heads.
    again = Seals(database, seals.witness.path.parents[1])
    append(database, 3, actor="eve")
    again.sign(now=NOW)
    assert broken_at(again.verify()) == 4


def test_all_heads_removed_is_found(database: Database, seals: Seals) -> None:
    append(database)
    seals.sign(now=NOW)
    put_rows(database, audit_heads, [])
    assert not seals.verify().holds
    seals.witness.path.unlink()
    assert not seals.verify().holds


def test_head_by_a_key_that_this_server_does_not_know_is_found(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    append(database)
    other = Seals(database, tmp_path / "other")
    other.sign(now=NOW)
    verdict = seals.verify()
    assert broken_at(verdict) == 1
    assert "not known" in str(verdict.broken)
    # Two control processes on one database know each other by their public keys.
    shutil.copy(tmp_path / "other/keys/audit.pub", tmp_path / "state/keys/audit-other.pub")
    assert seals.verify().holds


def test_unchanged_chain_is_not_signed_twice(database: Database, seals: Seals) -> None:
    assert seals.sign(now=NOW) is None
    append(database)
    assert seals.sign(now=NOW) is not None
    assert seals.sign(now=NOW) is None
    assert [head.number for head in seals.witness.heads()] == [1, 2]


def test_events_of_before_origins_were_kept_still_verify(database: Database, seals: Seals) -> None:
    """Their hash is over six facts; a row without an origin must have just that."""
    append(database)
    with database.reading() as tx:
        (event,) = tx.audit.newest(limit=1)
    facts = [1, event.at, event.actor, event.action, event.subject, event.details]
    canonical = msgspec.json.encode(facts, order="sorted")
    assert event.hash == sha256(b"0" * 64 + canonical).hexdigest()


def test_origin_is_the_callers_address_unless_the_change_names_one(database: Database) -> None:
    token = ORIGIN.set("10.0.0.7")
    append(database)
    append(database, origin="10.0.0.8")
    ORIGIN.reset(token)
    append(database, origin="x" * 1000)
    with database.reading() as tx:
        found = [event.origin for event in tx.audit.newest(limit=3)]
    assert found == ["x" * 255, "10.0.0.8", "10.0.0.7"]


def test_key_is_the_owners_alone_and_its_replacement_keeps_old_signatures_valid(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    keys = tmp_path / "state" / "keys"
    assert (keys / "audit.key").stat().st_mode & 0o777 == 0o600
    append(database)
    seals.sign(now=NOW)
    change = seals.rotate(actor="ada", now=NOW)
    assert (keys / "audit.key").stat().st_mode & 0o777 == 0o600
    assert read_public_key(keys / "audit.pub") == change.after
    assert read_public_key(keys / f"audit-{change.before[:16]}.pub") == change.before
    (event,) = AuditLog(database).newest(limit=1)
    assert (event.action, event.actor, event.details["after"]) == (
        "audit.rotate_key", "ada", change.after,
    )  # fmt: skip
    append(database)
    assert Seals(database, tmp_path / "state").sign(now=NOW).public_key == change.after  # type: ignore[union-attr]
    verdict = seals.verify()
    assert (verdict.holds, verdict.signed_through) == (True, 3)


def world_of_two_environments(database: Database) -> None:
    environments = Environments(database)
    for name, days in (("dev", 30), ("production", 365)):
        policy = {"audit": {"keep_days": days}}
        environments.apply(name, policy, actor="ada", now=NOW, dry_run=False)


def test_policies_archive_a_beginning_and_the_chain_verifies_across_the_cut(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    pruning = Pruning(seals)
    append(database, 3, details={"environment": "dev"})
    seals.sign(now=NOW)
    append(database, 1, details={"environment": "production"})
    append(database, 1, details={"environment": "dev"})
    world_of_two_environments(database)
    seals.sign(now=NOW)
    assert pruning.prune(actor="shipway", now=NOW + timedelta(days=29)).events == 0
    month = NOW + timedelta(days=31)
    planned = pruning.prune(actor="shipway", now=month, dry_run=True)
    assert (planned.first, planned.last) == (1, 3)
    assert len(rows_of(database, audit_table)) == 7
    done = pruning.prune(actor="shipway", now=month)
    assert (done.events, Path(done.archive).exists()) == (3, True)
    verdict = seals.verify(archives=True)
    assert (verdict.holds, verdict.first, verdict.last) == (True, 4, 8)
    (event,) = AuditLog(database).newest(limit=1)
    assert (event.action, event.details["last"]) == ("audit.prune", 3)
    assert [head.number for head in seals.witness.heads()] == [3, 4]
    with pytest.raises(NotFound, match="was archived"):
        AuditLog(database).get(2)
    # A second archive follows the first, and both lead back to event 1.
    year = NOW + timedelta(days=366)
    assert pruning.prune(actor="shipway", now=year).first == 4
    assert seals.verify(archives=True).holds
    trusted = seals.keys.trusted()
    archives = sorted((tmp_path / "state/audit/archive").glob("*.jsonl"))
    assert len(archives) == 2
    assert [verdict_of_file(path, trusted=trusted).holds for path in archives] == [True, True]
    check_archives_are_sealed(seals, archives)


def check_archives_are_sealed(seals: Seals, archives: list[Path]) -> None:
    trusted = seals.keys.trusted()
    first, second = archives
    whole = first.read_bytes()
    first.write_bytes(whole.replace(b'"ada"', b'"eve"', 1))
    assert broken_at(seals.verify(archives=True)) == 1
    assert broken_at(verdict_of_file(first, trusted=trusted)) == 1
    first.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    assert not verdict_of_file(first, trusted=trusted).holds
    first.unlink()
    assert broken_at(seals.verify(archives=True)) == 1
    assert seals.verify().holds
    first.write_bytes(whole)
    assert seals.verify(archives=True).holds
    shutil.copy(first, second)
    assert broken_at(seals.verify(archives=True)) == 4


def test_cut_that_is_removed_or_moved_is_found(database: Database, seals: Seals) -> None:
    for _ in range(4):
        append(database)
        seals.sign(now=NOW)
    Pruning(seals).prune(before=LATER, actor="ada", now=LATER)
    (row,) = rows_of(database, audit_cuts)
    put_rows(database, audit_cuts, [])
    assert broken_at(seals.verify()) == 1
    events = rows_of(database, audit_table)
    put_rows(database, audit_table, [one for one in events if one["sequence"] > 4])
    put_rows(database, audit_cuts, [{**row, "sequence": 4}])
    assert not seals.verify().holds


def test_broken_chain_is_not_archived(database: Database, seals: Seals) -> None:
    append(database, 3)
    seals.sign(now=NOW)
    append(database)
    events = rows_of(database, audit_table)
    put_rows(database, audit_table, [{**one, "actor": "eve"} for one in events])
    with pytest.raises(ConflictError, match="event 1 was changed"):
        Pruning(seals).prune(before=LATER, actor="ada", now=LATER)
    assert len(rows_of(database, audit_table)) == 4


def test_two_that_archive_at_once_do_not_remove_what_only_one_kept(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    for _ in range(3):
        append(database)
        seals.sign(now=NOW)
    slow, written = Pruning(seals), seals.archives.write

    def overtaken(name: str, links: Any) -> str:
        digest = written(name, links)
        seals.archives.write = written  # type: ignore[method-assign]
        other = Seals(database, tmp_path / "state")
        assert Pruning(other).prune(before=LATER, actor="bo", now=LATER).events == 2
        return digest

    seals.archives.write = overtaken  # type: ignore[method-assign]
    with pytest.raises(ConflictError, match="Another process"):
        slow.prune(before=LATER, actor="ada", now=LATER)
    assert seals.verify(archives=True).holds


def test_check_sees_one_moment_while_others_write(database: Database, seals: Seals) -> None:
    append(database, 2)
    with database.snapshot() as tx:
        assert len(list(tx.audit.chain())) == 2
        append(database)
        seals.sign(now=NOW)
        assert [head.sequence for head in tx.heads.by_event()] == [0]


def test_archive_with_another_manifest_does_not_hold(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    for _ in range(3):
        append(database)
        seals.sign(now=NOW)
    archive = Path(Pruning(seals).prune(before=LATER, actor="ada", now=LATER).archive)
    manifest, trusted = archive.with_suffix(".manifest.json"), seals.keys.trusted()
    assert verdict_of_file(archive, trusted=trusted).holds
    whole = manifest.read_bytes()
    for damaged in (
        whole.replace(b'"first": 1', b'"first": 2'),
        b"{}",
        whole.replace(b"-", b"x"),
    ):
        manifest.write_bytes(damaged)
        assert "manifest" in str(verdict_of_file(archive, trusted=trusted).broken)
    manifest.write_bytes(whole)
    # The same events by other bytes are not the archive that was sealed.
    archive.write_bytes(archive.read_bytes().replace(b'"actor":"ada"', b'"actor": "ada"'))
    assert "not the file that its manifest seals" in str(
        verdict_of_file(archive, trusted=trusted).broken
    )


@contextmanager
def child(url: str, state_dir: Path, **order: Any) -> Iterator[subprocess.Popen[str]]:
    """A process that has signed what is there, and waits for a line before it appends."""
    order |= {"database_url": url, "state_dir": str(state_dir)}
    command = [sys.executable, str(SCRIPT), json.dumps(order)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_two_processes_that_append_at_once_keep_one_chain(
    url: str, database: Database, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "state", tmp_path / "other"
    with (
        child(url, ours, actor="one", events=20, sign_every=3) as one,
        child(url, theirs, actor="two", events=20, sign_every=3) as two,
    ):
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        assert [process.wait(100) for process in (one, two)] == [0, 0]
    shutil.copy(theirs / "keys/audit.pub", ours / "keys/audit-two.pub")
    seals = Seals(database, ours)
    seals.sign(now=NOW)
    verdict = seals.verify()
    assert (verdict.holds, verdict.last, verdict.signed_through) == (True, 40, 40)
    assert {event.actor for event in AuditLog(database).newest()} == {"one", "two"}


@pytest.mark.parametrize(
    ("moment", "order"),
    [
        ("head made", {}),
        ("head in the database", {}),
        ("head in the file", {}),
        ("archive written", {"then": "prune"}),
        ("archive sealed", {"then": "prune"}),
        ("events removed", {"then": "prune"}),
        ("key replaced", {"then": "rotate"}),
        ("head made", {"then": "rotate", "times": 3}),
        ("head in the database", {"then": "rotate", "times": 2}),
    ],
)
def test_kill_9_leaves_a_chain_that_holds_and_goes_on(
    url: str, database: Database, tmp_path: Path, moment: str, order: dict[str, Any]
) -> None:
    append(database, 3)
    state = tmp_path / "state"
    with child(url, state, actor="one", events=1, die_after=moment, **order) as process:
        process.communicate("go\n", timeout=100)
        assert process.returncode == -signal.SIGKILL
    seals = Seals(database, state)
    assert seals.verify().holds
    append(database, 2)
    seals.sign(now=NOW)
    assert seals.verify(archives=True).holds
    Pruning(seals).prune(before=LATER, actor="ada", now=LATER)
    verdict = seals.verify(archives=True)
    assert verdict.holds
    assert verdict.last == verdict.signed_through
    with database.reading() as tx:
        kept = [head.number for head in tx.heads.by_number()]
    assert [head.number for head in seals.witness.heads()] == kept


def test_head_line_that_was_never_finished_is_left_out_and_written_anew(
    database: Database, seals: Seals
) -> None:
    append(database)
    seals.sign(now=NOW)
    path = seals.witness.path
    path.write_bytes(path.read_bytes()[:-20])
    again = Seals(database, path.parents[1])
    assert again.verify().holds
    again.sign(now=NOW)
    assert [head.number for head in again.witness.heads()] == [1, 2]


def test_damaged_file_of_heads_is_found_and_stops_nothing(database: Database, seals: Seals) -> None:
    append(database)
    seals.sign(now=NOW)
    path = seals.witness.path
    path.write_bytes(path.read_bytes()[:-10] + b"damaged}}\n")
    again = Seals(database, path.parents[1])
    append(database)
    assert again.sign(now=NOW) is not None
    verdict = again.verify()
    assert broken_at(verdict) == 2
    assert "Line 2 of " in str(verdict.broken)


def test_lost_key_is_replaced_and_what_it_signed_stays_valid(
    database: Database, seals: Seals, tmp_path: Path
) -> None:
    append(database)
    seals.sign(now=NOW)
    (tmp_path / "state/keys/audit.key").unlink()
    again = Seals(database, tmp_path / "state")
    assert again.sign(now=NOW) is not None
    assert len(again.keys.trusted()) == 2
    assert again.verify().holds


def test_filters_and_pages_of_the_list(database: Database) -> None:
    append(database, 2)
    append(database, 1, actor="bo", action="alias.delete", subject="churn:2", at=LATER)
    append(database, 1, actor="bo", action="aliases.x", subject="churned")
    log = AuditLog(database)

    def numbers(**query: Any) -> list[int]:
        return [event.sequence for event in log.matching(AuditQuery(**query))]

    assert numbers(subject="churn") == [3, 2, 1]
    assert numbers(actor="bo") == [4, 3]
    assert numbers(action="alias") == [3, 2, 1]
    assert numbers(action="alias.set") == [2, 1]
    assert numbers(since=LATER) == [3]
    assert numbers(until=LATER) == [4, 2, 1]
    assert numbers(limit=2) == [4, 3]
    assert numbers(limit=2, before=3) == [2, 1]
    assert log.get(3).actor == "bo"
    with pytest.raises(NotFound):
        log.get(5)


def test_pages_of_the_chain_are_all_of_it_once(database: Database, seals: Seals) -> None:
    for count in (3, 2, 4):
        append(database, count)
        seals.sign(now=NOW)
    log, events, heads, after = AuditLog(database), [], [], None
    while True:
        page = log.page(after=after, heads_after=len(heads), limit=3)
        events += [event.sequence for event in page.events]
        heads += [head.number for head in page.heads]
        if len(page.events) < 3:
            break
        after = page.events[-1].sequence
    assert (events, heads) == ([*range(1, 10)], [1, 2, 3, 4])
    # The heads of events that are gone are in it: a chain cut off is cut off in its export, too.
    put_rows(
        database, audit_table, [r for r in rows_of(database, audit_table) if r["sequence"] < 8]
    )
    assert [head.number for head in log.page(after=6, heads_after=3, limit=3).heads] == [4]


def test_denials_are_events_with_who_what_and_from_where(database: Database, seals: Seals) -> None:
    log = AuditLog(database)
    for _ in range(32):
        log.deny(Denial(actor="eve", right="deploy", subject="churn", origin="10.6.6.6"), now=NOW)
    assert len(log.newest()) == 30
    log.sum_up_denials(now=NOW)
    assert len(log.newest()) == 30
    log.sum_up_denials(now=NOW, at_the_end=True)
    (event,) = log.newest(limit=1)
    assert (event.action, event.actor, event.origin) == ("access.deny", "eve", "10.6.6.6")
    assert event.details == {"right": "deploy", "route": "", "count": 2}
    seals.sign(now=NOW)
    assert seals.verify().holds


def test_damaged_key_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    keys = AuditKeys(tmp_path / "keys")
    keys.current()
    (tmp_path / "keys" / "audit.key").write_text("no key")
    with pytest.raises(StateUnusable, match=r"audit\.key"):
        keys.current()
    (tmp_path / "keys" / "audit-old.pub").write_text("no key")
    with pytest.raises(StateUnusable, match=r"audit-old\.pub"):
        keys.trusted()
