"""Repeated requests of the prediction log: counted in bounds, and a log that is away is said and not waited for."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import timedelta
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from shipway.control.predictions import Predictions
from shipway.control.repetitions import Repetitions
from shipway.core.captures import Role
from shipway.core.repeats import Compared, Repeats
from shipway.core.tensors import DataType
from shipway.core.thrift import Observed
from shipway.store.predictions.reading import LogFiles

sys.path.insert(0, str(Path(__file__).parent))
from spooling import NOW, prediction, segment, shape, texts

CHURN = shape()


@pytest.fixture
def log(database, artifacts, tmp_path) -> Predictions:
    return Predictions(database, artifacts, environment="dev", state_dir=tmp_path / "control")


@pytest.fixture
def repetitions(log, tmp_path) -> Repetitions:
    return Repetitions(log, state_dir=tmp_path / "control", wait_s=120)


def seen(version: int = 1, *columns: str, endpoint: str = "churn") -> Observed:
    return Observed(
        endpoint=endpoint,
        version=f"churn:{version}",
        hours=24,
        requests=10_000,
        replicas=1,
        compared=Compared(columns=columns or ("age", "plan")),
    )


def asked(seconds: float, *rows: tuple[float, str | None], **facts):
    """A request so many seconds before now, with these rows."""
    ages, plans = zip(*rows, strict=True)
    at = NOW - timedelta(seconds=seconds)
    return prediction(
        f"r-{seconds}",
        at=at,
        inputs={"age": np.array(ages), "plan": texts(*plans)},
        outputs={"label": np.ones(len(rows), dtype=np.int64)},
        of=facts.pop("of", CHURN),
        **facts,
    )


def test_a_repetition_has_equal_rows_in_equal_order_within_the_time_of_an_answer(log, repetitions):
    a, b = (41.5, "basic"), (40.0, None)
    log.ingest(
        segment(
            [
                asked(500, a),  # kept until 440
                asked(450, a),  # a repetition
                asked(430, a),  # the model runs again
                asked(420, b),
                asked(410, a, b),
                asked(409, b, a),
                asked(408, a, b),  # a repetition
                asked(407, a, a),
                asked(406, b, b),
                asked(
                    405, b, role=Role.CANDIDATE
                ),  # a repetition: for callers it is the same version
                asked(404, (np.nan, "basic")),
                asked(403, (np.nan, "basic")),  # a repetition: nulls are equal
                asked(402, a, role=Role.SHADOW),  # nobody asked it
            ]
        ),
        gateway="gw",
        now=NOW,
    )
    found = repetitions.counted([seen()], NOW)
    assert found.repeats == {("churn", "churn:1"): Repeats(requests=12, repeated=4)}
    assert found.unknown == ()


def test_versions_are_counted_by_themselves_and_older_days_not_at_all(log, repetitions):
    second = shape(version=2)
    a = (41.5, "basic")
    log.ingest(segment([asked(90_001, a), asked(90_000, a)]), gateway="gw", now=NOW)
    log.ingest(segment([asked(3, a), asked(2, a, of=second)]), gateway="gw", now=NOW)
    log.ingest(segment([asked(1, a)]), gateway="gw", now=NOW)
    found = repetitions.counted([seen(2), seen(1)], NOW)
    assert found.repeats == {
        ("churn", "churn:2"): Repeats(requests=1, repeated=0),
        ("churn", "churn:1"): Repeats(requests=2, repeated=1),
    }


def test_rows_of_a_time_when_fewer_inputs_were_kept_are_no_repetitions(log, repetitions):
    ages = shape(age=DataType.FP64)
    log.ingest(
        segment(
            prediction(f"old-{n}", at=NOW, of=ages, inputs={"age": np.array([41.5])})
            for n in range(9)
        ),
        gateway="gw",
        now=NOW,
    )
    log.ingest(segment([asked(1, (41.5, "basic"))]), gateway="gw", now=NOW)
    found = repetitions.counted([seen()], NOW + timedelta(seconds=1))
    assert found.repeats == {("churn", "churn:1"): Repeats(requests=1, repeated=0)}


def test_only_the_newest_rows_are_looked_at(log, repetitions, monkeypatch):
    monkeypatch.setattr("shipway.control.repetitions.MOST_ROWS", 3)
    a = (41.5, "basic")
    for first in (50, 40, 30):
        log.ingest(segment([asked(first, a), asked(first - 1, a)]), gateway="gw", now=NOW)
    found = repetitions.counted([seen()], NOW)
    assert found.repeats == {("churn", "churn:1"): Repeats(requests=3, repeated=2)}


def test_a_version_without_a_log_has_no_requests(repetitions):
    found = repetitions.counted([seen()], NOW)
    assert found.repeats == {("churn", "churn:1"): Repeats(requests=0, repeated=0)}


class Logs:
    """Stands for a log: files that are no Parquet, and a store that does not answer until it is told to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers = threading.Event()
        self.answers.set()

    def since_of_newest(self, endpoint, rows, *, version, since):
        return since

    @contextmanager
    def files(self, endpoint, *, version, since, until):
        assert self.answers.wait(60)
        yield LogFiles(predictions=((str(self.path),),) if endpoint == "broken" else ())


@pytest.fixture
def logs(tmp_path) -> Logs:
    path = tmp_path / "rows.parquet"
    path.write_bytes(b"PAR1 and no more PAR1")
    return Logs(path)


def test_a_file_that_cannot_be_read_is_said_and_does_not_keep_others_from_theirs(logs, tmp_path):
    repetitions = Repetitions(logs, state_dir=tmp_path, wait_s=120)
    found = repetitions.counted([seen(endpoint="broken"), seen(endpoint="sound")], NOW)
    assert set(found.repeats) == {("sound", "churn:1")}
    (one,) = found.unknown
    assert (one.kind, one.endpoint) == ("cache", "broken")
    assert "cannot be read" in one.why


def ended():
    for thread in threading.enumerate():
        if thread.name == "repetitions":
            thread.join()


def test_few_wait_for_their_turn_and_others_know_at_once(logs, tmp_path):
    repetitions = Repetitions(logs, state_dir=tmp_path, wait_s=20)
    logs.answers.clear()
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(repetitions.counted, [seen()], NOW) for _ in range(40)]
        soon = list(islice(as_completed(asked, timeout=15), 31))
        logs.answers.set()
        rest = [one.result() for one in asked if one not in soon]
    assert all("for somebody else" in one.result().unknown[0].why for one in soon)
    assert any(not one.unknown for one in rest)


@pytest.mark.parametrize("fault", [RuntimeError("can't start new thread"), None])
def test_what_cannot_be_begun_leaves_the_turn_to_others(logs, tmp_path, monkeypatch, fault):
    repetitions = Repetitions(logs, state_dir=tmp_path / "state", wait_s=60)

    def fails(*_, **__):
        raise fault or OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        if fault:
            patch.setattr(threading.Thread, "start", fails)
        else:
            patch.setattr("tempfile.mkdtemp", fails)
        (one,) = repetitions.counted([seen()], NOW).unknown
    assert ("new thread" if fault else "No space left") in one.why
    ended()
    assert repetitions.counted([seen()], NOW).unknown == ()


def test_a_store_that_does_not_answer_is_not_waited_for(logs, tmp_path):
    repetitions = Repetitions(logs, state_dir=tmp_path, wait_s=0.1)
    logs.answers.clear()
    for why in ("no answer within 0.1 s", "counted for somebody else"):
        (one,) = repetitions.counted([seen()], NOW).unknown
        assert why in one.why
    logs.answers.set()
    ended()
    assert Repetitions(logs, state_dir=tmp_path, wait_s=120).counted([seen()], NOW).unknown == ()
