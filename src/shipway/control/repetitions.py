"""Repeated requests in the prediction log, counted by a process of its own, and never waited for long."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from threading import Thread
from time import monotonic

import msgspec

from shipway.control.costs import Counted
from shipway.control.predictions import Predictions
from shipway.control.turns import Turns
from shipway.core.errors import QueueFull, ShipwayError
from shipway.core.thrift import CACHE, Observed, Unknown
from shipway.core.versions import parse_version
from shipway.monitoring.processes import run
from shipway.monitoring.repetition import Answer, Asked, Order
from shipway.store.staging import Staging

PERIOD = timedelta(days=1)
MOST_ROWS = 200_000
"""So many of a version's newest rows are looked at."""

TIMEOUT_S = 15.0
WAIT_S = 20.0
"""So long, the fetching of files included, somebody waits for numbers that are not vital."""


class Repetitions:
    """What the log of one environment says about repeated requests. Thread-safe; blocks for `wait_s` at most."""

    def __init__(
        self, predictions: Predictions, *, state_dir: Path, wait_s: float = WAIT_S
    ) -> None:
        self._predictions = predictions
        self._staging = Staging(state_dir / "staging")
        self._wait_s = wait_s
        # Whoever has its turn late would begin what it cannot wait for.
        self._turns = Turns("counts of repeated requests", at_once=1, wait_s=wait_s / 2)

    def counted(self, versions: Sequence[Observed], until: datetime) -> Counted:
        """The repeats of each version over the last day; why not, of those that cannot be counted."""
        end = monotonic() + self._wait_s
        with ExitStack() as turn:
            try:
                turn.enter_context(self._turns.taken())
            except QueueFull:
                why = "They are being counted for somebody else. Ask again later."
                return _unknown(versions, why)
            done = _begun(lambda: self._look(versions, until), turn)
        try:
            return done.result(timeout=max(0.0, end - monotonic()))
        except TimeoutError:
            why = f"The prediction log gave no answer within {self._wait_s:g} s."
        except ShipwayError as exc:
            why = exc.message
        except OSError as exc:
            why = f"They cannot be counted now: {exc.strerror}."
        return _unknown(versions, why)

    def _look(self, versions: Sequence[Observed], until: datetime) -> Counted:
        with self._staging.new() as directory, ExitStack() as stack:
            order = Order(
                asked=tuple(self._asked(versions, until, stack)),
                most_rows=MOST_ROWS,
                temp_dir=str(directory / "spilled"),
                timeout_s=TIMEOUT_S,
            )
            said = run("repeat", msgspec.json.encode(order), timeout_s=TIMEOUT_S)
        answers = msgspec.json.decode(said, type=list[Answer])
        found = dict(zip(((one.endpoint, one.version) for one in versions), answers, strict=True))
        return Counted(
            repeats={name: one.repeats for name, one in found.items() if one.repeats is not None},
            unknown=tuple(
                _missing(seen, one.message)
                for seen, one in zip(versions, answers, strict=True)
                if one.repeats is None
            ),
        )

    def _asked(
        self, versions: Sequence[Observed], until: datetime, stack: ExitStack
    ) -> Iterator[Asked]:
        for seen in versions:
            number = parse_version(seen.version).number
            assert number is not None
            assert seen.compared is not None
            since = self._predictions.since_of_newest(
                seen.endpoint, MOST_ROWS, version=number, since=until - PERIOD
            )
            files = self._predictions.files(seen.endpoint, version=number, since=since, until=until)
            yield Asked(
                # A shadow gets copies of requests, which no cache answers.
                files=msgspec.structs.replace(stack.enter_context(files), shadows=False),
                columns=seen.compared.columns,
                ttl_s=CACHE.ttl_s,
            )


def _begun(work: Callable[[], Counted], turn: ExitStack) -> Future[Counted]:
    """What will come of work that has begun, and ends its turn. Its thread keeps no process from ending."""
    done: Future[Counted] = Future()
    held = turn.pop_all()

    def go() -> None:
        try:
            done.set_result(work())
        except BaseException as exc:  # noqa: BLE001 - raised where the result is waited for
            done.set_exception(exc)
        finally:
            held.close()

    try:
        Thread(target=go, name="repetitions", daemon=True).start()
    except RuntimeError as exc:
        held.close()
        done.set_exception(OSError(errno.EAGAIN, str(exc)))
    return done


def _unknown(versions: Sequence[Observed], why: str) -> Counted:
    return Counted(unknown=tuple(_missing(seen, why) for seen in versions))


def _missing(seen: Observed, why: str) -> Unknown:
    return Unknown(kind="cache", endpoint=seen.endpoint, version=seen.version, why=why)
