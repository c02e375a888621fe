"""The prediction log: what gateways post comes out of DuckDB once, whatever happens in between."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from shipway.control.predictions import Predictions
from shipway.control.upkeep import GRACE, ORPHAN_AFTER, Upkeep
from shipway.core.captures import Feedback, Role
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import InvalidRequest
from shipway.core.redaction import Capture
from shipway.core.tensors import DataType
from shipway.store.predictions.parts import hash_of

sys.path.insert(0, str(Path(__file__).parent))
from spooling import NOW, ids, micros, opened, prediction, rows, segment, shape, texts

DAY = timedelta(days=1)


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "control"


@pytest.fixture
def log(database, artifacts, state_dir) -> Predictions:
    return Predictions(database, artifacts, environment="dev", state_dir=state_dir)


@pytest.fixture
def upkeep(database, artifacts, state_dir) -> Upkeep:
    return Upkeep(database, artifacts, environment="dev", state_dir=state_dir)


def live(database):
    with database.reading() as tx:
        return tx.partitions.all_of("dev")


def test_what_is_posted_is_read(log):
    one = prediction(
        "r-1", role=Role.CANDIDATE, segment="eu", key="customer 7", latency_us=2500,
        inputs={"age": np.array([41.5, np.nan]), "plan": texts("ünï", None)},
        outputs={"label": np.array([1, 0])},
    )  # fmt: skip
    assert log.ingest(segment([one]), gateway="gw", now=NOW)
    with opened(log, "churn") as connection:
        first, second = rows(connection)
    assert first == {
        "_request_id": "r-1", "_row": 0, "_at": NOW, "_version": 1, "_role": "candidate",
        "_latency_ms": 2.5, "_principal": "web", "_segment": "eu", "_key": "customer 7",
        "age": 41.5, "plan": "ünï", "label": 1,
    }  # fmt: skip
    assert (second["_row"], second["age"], second["plan"], second["label"]) == (1, None, None, 0)


def test_one_prediction_that_no_table_can_hold_costs_the_others_nothing(log, state_dir):
    bad = prediction("bad", inputs={"age": np.zeros(3), "plan": texts(*"abc")})
    data = segment([prediction("a"), bad, prediction("c", of=shape("other"))])
    assert log.ingest(data, gateway="gw", now=NOW)
    for endpoint, wanted in (("churn", ["a"]), ("other", ["c"])):
        with opened(log, endpoint) as connection:
            assert ids(connection) == wanted
    (aside,) = (state_dir / "spool-rejected").iterdir()
    assert aside.read_bytes() == data
    with pytest.raises(InvalidRequest):
        log.ingest(segment([bad]), gateway="gw", now=NOW)


def test_feedback_is_read_raw(log):
    said = [
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW), request_id="r-1", row=0,
                 label="yes", id="f-1", principal="crm"),
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW) + 1, key="customer 7",
                 score=0.25, outcomes={"revenue": 12.5}),
    ]  # fmt: skip
    log.ingest(segment([], said), gateway="gw", now=NOW)
    with opened(log, "churn", since=NOW - DAY, until=NOW) as connection:
        first, second = rows(connection, "SELECT * FROM feedback ORDER BY _at")
        assert rows(connection) == []
    assert (first["_request_id"], first["_row"], first["label"], first["_id"]) == (
        "r-1", 0, "yes", "f-1",
    )  # fmt: skip
    assert (first["_key"], first["score"], first["outcomes"]) == (None, None, [])
    assert (second["_request_id"], second["_row"], second["_key"]) == (None, None, "customer 7")
    assert (second["score"], second["outcomes"]) == (0.25, [("revenue", 12.5)])


def labelled(*labels: str) -> list[Feedback]:
    return [
        Feedback(environment="dev", endpoint="churn", at_us=micros(NOW), request_id="r", label=one)
        for one in labels
    ]


def labels_as_they_arrived(log) -> list[str]:
    with opened(log, "churn") as connection:
        found = rows(connection, "SELECT label FROM feedback ORDER BY _arrived NULLS FIRST, label")
    return [row["label"] for row in found]


@pytest.mark.parametrize("is_old", [False, True], ids=["new files", "an old file"])
def test_feedback_says_in_which_order_it_arrived_also_once_it_is_merged(
    log, upkeep, monkeypatch, is_old
):
    from shipway.store.predictions import writing

    def without_arrivals(table, path, write=writing.write_table) -> None:
        write(table.drop_columns(["_arrived"]), path)

    with monkeypatch.context() as patch:
        if is_old:  # as it was written before messages said when they arrived
            patch.setattr(writing, "write_table", without_arrivals)
        log.ingest(segment([], labelled("a", "b"), segment_id=b"c" * 16), gateway="g", now=NOW)
        assert labels_as_they_arrived(log) == ["a", "b"]
    log.ingest(segment([], labelled("z", "y"), segment_id=b"b" * 16), gateway="g", now=NOW)
    log.ingest(segment([], labelled("x"), segment_id=b"a" * 16), gateway="g", now=NOW)
    expected = ["a", "b", "z", "y", "x"]
    assert labels_as_they_arrived(log) == expected
    assert upkeep.compact(NOW + DAY) == 2
    assert labels_as_they_arrived(log) == expected
    with opened(log, "churn") as connection:
        (found,) = rows(connection, "SELECT count(_arrived) AS told FROM feedback")
    assert found == {"told": 3 if is_old else 5}


def test_a_segment_posted_twice_counts_once(log):
    data = segment([prediction("r-1"), prediction("r-2")])
    assert [log.ingest(data, gateway="gw", now=NOW) for _ in range(3)] == [True, False, False]
    with opened(log, "churn") as connection:
        assert ids(connection) == ["r-1", "r-2"]


def test_segments_posted_at_the_same_time_by_everybody_count_once(place, state_dir, log):
    data = [segment([prediction(f"r-{i}")]) for i in range(6)]
    other = Predictions(
        place.database(), place.artifacts(), environment="dev", state_dir=state_dir / "other"
    )
    with ThreadPoolExecutor(8) as pool:
        posts = [
            pool.submit(control.ingest, one, gateway="gw", now=NOW)
            for one in data
            for control in (log, other, log)
        ]
        assert sum(post.result() for post in posts) == len(data)
    other._database.close()
    with opened(log, "churn") as connection:
        assert ids(connection) == sorted(f"r-{i}" for i in range(6))


def kill_at(step: int, monkeypatch: pytest.MonkeyPatch, target: object, name: str) -> None:
    """The call of that number (from 0) ends the process before it does anything, `step + 0.5` after."""
    calls = iter(range(1000))
    real: Callable = getattr(target, name)

    def dying(*arguments, **named):
        if next(calls) == step:
            raise Killed
        return real(*arguments, **named)

    monkeypatch.setattr(target, name, dying)


@pytest.mark.parametrize(
    ("name", "step"), [("put", 0), ("put", 1), ("put", 2), ("transaction", 0), ("after", 0)]
)
def test_killed_at_any_step_a_segment_counts_once(log, database, monkeypatch, name, step):
    of = shape(version=2)
    data = segment(
        [prediction("r-1"), prediction("r-2", of=of), prediction("r-3", of=of, at=NOW - DAY)]
    )
    with monkeypatch.context() as patch:
        if name == "put":
            kill_at(step, patch, log._objects, "put")
        elif name == "transaction":
            kill_at(step, patch, log._database, "transaction")
        else:
            kill_in_commit(patch, database)
        with pytest.raises(Killed):
            log.ingest(data, gateway="gw", now=NOW)
    with opened(log, "churn") as connection:
        assert ids(connection) == []
    assert log.ingest(data, gateway="gw", now=NOW)
    with opened(log, "churn") as connection:
        assert ids(connection) == ["r-1", "r-2", "r-3"]


def kill_in_commit(patch: pytest.MonkeyPatch, database) -> None:
    """The rows are written when the process ends, and not committed."""
    from shipway.store.sql.predictions import PartitionRows

    real = PartitionRows.add

    def dying(self, *arguments):
        real(self, *arguments)
        raise Killed

    patch.setattr(PartitionRows, "add", dying)


def test_a_torn_segment_counts_as_far_as_it_goes_and_the_rest_is_kept(log, state_dir):
    whole = segment([prediction("r-1"), prediction("r-2")])
    torn = whole[:-40] + b"\0" * 7
    assert log.ingest(torn, gateway="gw", now=NOW)
    assert not log.ingest(torn, gateway="gw", now=NOW)
    with opened(log, "churn") as connection:
        assert ids(connection) == ["r-1"]
    (kept,) = (state_dir / "spool-rejected").iterdir()
    assert kept.read_bytes() == torn


NO_SEGMENTS = [b"", b"nonsense", segment([prediction()])[:40] + b"\xff" * 50]


@pytest.mark.parametrize("data", NO_SEGMENTS, ids=["empty", "foreign", "torn at once"])
def test_what_is_no_segment_is_refused_and_kept(log, state_dir, data):
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="spool-rejected"):
            log.ingest(data, gateway="gw", now=NOW)
    (kept,) = (state_dir / "spool-rejected").iterdir()
    assert kept.read_bytes() == data


@pytest.mark.parametrize("endpoint", ["../bundles", "a/b", "", "..", "x" * 64])
def test_a_name_cannot_lead_out_of_the_logs_place(log, artifacts, endpoint):
    with pytest.raises(InvalidRequest):
        log.ingest(segment([prediction(of=shape(endpoint))]), gateway="gw", now=NOW)
    assert list(artifacts.log.all()) == []


def test_an_endpoint_has_its_own_log_only(log):
    log.ingest(segment([prediction("mine", of=shape("mine.a"))]), gateway="gw", now=NOW)
    log.ingest(segment([prediction("theirs", of=shape("theirs.a"))]), gateway="gw", now=NOW)
    with opened(log, "mine.a") as connection:
        assert ids(connection) == ["mine"]
    with opened(log, "nobodys") as connection:
        assert rows(connection, "SELECT * FROM predictions, feedback") == []


def test_versions_and_times_are_chosen(log):
    for version in (1, 2):
        for day in range(3):
            of, at = shape(version=version), NOW - day * DAY
            log.ingest(
                segment([prediction(f"v{version}-{day}", of=of, at=at)]), gateway="g", now=NOW
            )
    with opened(log, "churn", version=2) as connection:
        assert ids(connection) == ["v2-0", "v2-1", "v2-2"]
    with opened(log, "churn", since=NOW - DAY, until=NOW) as connection:
        assert ids(connection) == ["v1-1", "v2-1"]
    with opened(log, "churn", version=1, until=NOW - DAY) as connection:
        assert ids(connection) == ["v1-2"]


def test_versions_with_other_columns_are_in_one_view(log):
    first = shape(version=1, age=DataType.INT64)
    second = shape(version=2, age=DataType.FP64, plan=DataType.STRING)
    log.ingest(
        segment([
            prediction("a", of=first, inputs={"age": np.array([2**53 + 1])}),
            prediction("b", of=second, inputs={"age": np.array([0.5]), "plan": texts("x")}),
        ]),
        gateway="g", now=NOW,
    )  # fmt: skip
    with opened(log, "churn") as connection:
        a, b = rows(connection)
    assert (a["age"], a["plan"], b["age"], b["plan"]) == (float(2**53), None, 0.5, "x")
    with opened(log, "churn", version=1) as connection:
        (alone,) = rows(connection)
    assert alone["age"] == 2**53 + 1


def filled(log, segments: int, *, now=NOW) -> list[str]:
    names = [f"r-{i:03}" for i in range(segments)]
    for i, name in enumerate(names):
        of = shape(version=1 + i % 2)
        at = now - timedelta(seconds=i)
        said = Feedback(environment="dev", endpoint="churn", at_us=micros(at), request_id=name)
        log.ingest(segment([prediction(name, of=of, at=at)], [said]), gateway="g", now=now)
    return names


def test_compaction_changes_no_answer_not_even_of_a_reader_at_it(log, upkeep, database, artifacts):
    names = filled(log, 20)
    with opened(log, "churn") as before:
        expected = rows(before)
        assert upkeep.compact(NOW) > 0
        assert rows(before) == expected
        with opened(log, "churn") as after:
            assert rows(after) == expected
            found = rows(after, "SELECT _request_id FROM feedback ORDER BY 1")
            assert [row["_request_id"] for row in found] == names
        assert len(live(database)) == 3
        assert rows(before) == expected
    assert upkeep.compact(NOW) == 0
    # The files that were replaced are deleted, but not before their grace has passed.
    upkeep.expire(NOW + GRACE / 2)
    assert len(list(artifacts.log.all())) == 43
    upkeep.expire(NOW + GRACE + timedelta(seconds=1))
    assert len(list(artifacts.log.all())) == 3
    with opened(log, "churn") as connection:
        assert rows(connection) == expected


def test_a_day_that_is_over_ends_in_one_file_of_each_version(log, upkeep, database):
    filled(log, 6)
    assert upkeep.compact(NOW) == 0
    assert upkeep.compact(NOW + DAY) == 9
    assert len(live(database)) == 3


@pytest.mark.parametrize("name", ["put", "transaction"])
def test_killed_at_any_step_a_merge_changes_nothing(log, upkeep, monkeypatch, name):
    names = filled(log, 10)
    with monkeypatch.context() as patch:
        target = upkeep._objects if name == "put" else upkeep._database
        kill_at(0, patch, target, name)
        with pytest.raises(Killed):
            upkeep.compact(NOW + DAY)
    with opened(log, "churn") as connection:
        assert ids(connection) == names
    assert upkeep.compact(NOW + DAY) > 0
    with opened(log, "churn") as connection:
        assert ids(connection) == names


def test_two_that_merge_at_once_lose_and_double_nothing(place, log, upkeep, state_dir):
    names = filled(log, 10)
    other = Upkeep(
        place.database(), place.artifacts(), environment="dev", state_dir=state_dir / "other"
    )
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(one.compact, NOW + DAY) for one in (upkeep, other)]
        assert sum(one.result() for one in done) == 17
    other._database.close()
    with opened(log, "churn") as connection:
        assert ids(connection) == names


def declare(database, name: str, capture) -> None:
    spec = EndpointSpec(name=name, model="churn:1", environment="dev", capture=capture)
    state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE)
    with database.transaction() as tx:
        tx.endpoints.put(state, expected_generation=None)


def test_what_is_older_than_it_is_kept_goes_with_its_objects(log, upkeep, database, artifacts):
    for age in (0, 29, 31, 40):
        at = NOW - age * DAY
        said = Feedback(environment="dev", endpoint="churn", at_us=5, request_id=f"r-{age}")
        log.ingest(segment([prediction(f"r-{age}", at=at)], [said]), gateway="g", now=at)
    assert upkeep.expire(NOW) == 4
    with opened(log, "churn") as connection:
        assert ids(connection) == ["r-0", "r-29"]
        found = rows(connection, "SELECT _request_id FROM feedback ORDER BY 1")
    assert [row["_request_id"] for row in found] == ["r-0", "r-29"]
    with database.reading() as tx:
        (event,) = tx.audit.newest(limit=10)
    assert (event.action, event.subject) == ("predictions.expire", "churn")
    assert (event.details["files"], event.details["rows"]) == (4, 4)
    assert upkeep.expire(NOW + 2 * GRACE) == 0
    assert len(list(artifacts.log.all())) == 4


@pytest.mark.skipif("keep_days" not in Capture.__struct_fields__, reason="specs do not say it yet")
def test_an_endpoint_says_how_long_its_log_is_kept_and_a_deleted_ones_stays_as_long(
    log, upkeep, database
):
    declare(database, "long", Capture(keep_days=90))
    declare(database, "short", Capture(keep_days=3))
    for name in ("long", "short"):
        for age in (60, 5, 1):
            at = NOW - age * DAY
            data = segment([prediction(f"{name}-{age}", of=shape(name), at=at)])
            log.ingest(data, gateway="g", now=at)
    with database.transaction() as tx:
        tx.endpoints.delete("dev", "long")
    upkeep.expire(NOW)
    with opened(log, "long") as connection:
        assert ids(connection) == ["long-1", "long-5", "long-60"]
    with opened(log, "short") as connection:
        assert ids(connection) == ["short-1"]


def test_objects_that_nothing_names_are_deleted_once_they_are_old(log, upkeep, artifacts):
    log.ingest(segment([prediction("r-1")]), gateway="g", now=NOW)
    with tempfile.NamedTemporaryFile() as draft:
        artifacts.log.put("predictions/dev/churn/2026-05-06/v1-orphan.parquet", Path(draft.name))
    written_at = max(one.written_at for one in artifacts.log.all())
    upkeep.expire(written_at)
    assert len(list(artifacts.log.all())) == 2
    upkeep.expire(written_at + ORPHAN_AFTER + timedelta(minutes=1))
    assert all("orphan" not in one.path for one in artifacts.log.all())


def test_a_file_that_is_missing_is_left_out_and_merged_around(log, upkeep, database, artifacts):
    filled(log, 5)
    lost = live(database)[-1]
    artifacts.log.delete(lost.path)
    with opened(log, "churn") as connection:
        names = ids(connection)
    assert len(names) == (5 if lost.version == 0 else 4)
    assert upkeep.compact(NOW + DAY) > 0
    assert lost in live(database)
    assert len(live(database)) <= 4
    with opened(log, "churn") as connection:
        assert ids(connection) == names


@pytest.mark.parametrize("kept_bytes", [0, 20, -200])
def test_a_damaged_file_is_named_and_others_are_merged(
    log, upkeep, database, artifacts, tmp_path, caplog, kept_bytes
):
    filled(log, 4)
    group = [one for one in live(database) if one.version == 1]
    draft, damaged = tmp_path / "damaged", group[0]
    with artifacts.log.near([(damaged.path, damaged.size_bytes)], tmp_path / "near") as near:
        whole = near[damaged.path].read_bytes()
    draft.write_bytes(
        whole[:4] + bytes(200) + whole[204:] if kept_bytes < 0 else whole[:kept_bytes]
    )
    artifacts.log.put(damaged.path, draft)
    assert upkeep.compact(NOW + DAY) == 4
    assert [one for one in live(database) if one.version == 1] == group
    assert f"`{group[0].path}` and 1 more" in caplog.text
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("missing", [1, None])
def test_what_a_wrong_store_does_not_have_is_neither_forgotten_nor_deleted_when_it_is_back(
    log, upkeep, database, artifacts, tmp_path, caplog, missing
):
    with tempfile.NamedTemporaryFile() as draft:
        artifacts.log.put("predictions/dev/churn/2026-05-06/v1-newer.parquet", Path(draft.name))
    (at,) = [one.written_at for one in artifacts.log.all()]
    for name in ("r-1", "r-2"):
        log.ingest(segment([prediction(name, at=at)]), gateway="g", now=at)
    files, kept = live(database), {}
    for one in files[:missing]:
        with artifacts.log.near([(one.path, one.size_bytes)], tmp_path / "near") as near:
            kept[one.path] = tmp_path / Path(one.path).name
            kept[one.path].write_bytes(near[one.path].read_bytes())
        artifacts.log.delete(one.path)
    later = at + ORPHAN_AFTER + timedelta(minutes=5)
    upkeep.expire(later)
    assert f"{len(kept)} of the prediction log's 2 files are missing" in caplog.text
    assert any("newer" in one.path for one in artifacts.log.all())
    assert live(database) == files
    for path, copy in kept.items():
        artifacts.log.put(path, copy)
    upkeep.expire(later)
    assert {one.path for one in artifacts.log.all()} == set(kept) | {one.path for one in files}
    with opened(log, "churn") as connection:
        assert ids(connection) == ["r-1", "r-2"]


def test_a_segment_is_known_for_as_long_as_its_rows_may_be_there(log, upkeep):
    data = segment([prediction("r-1")])
    log.ingest(data, gateway="g", now=NOW)
    upkeep.expire(NOW + 31 * DAY)
    assert not log.ingest(data, gateway="g", now=NOW + 31 * DAY)
    upkeep.expire(NOW + 33 * DAY)
    with log._database.reading() as tx:
        assert tx.partitions.shapes([hash_of(shape())[0]]) == {}
    assert log.ingest(data, gateway="g", now=NOW + 33 * DAY)
    assert upkeep.expire(NOW + 33 * DAY) == 1
