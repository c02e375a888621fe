"""Reading the prediction log for people and machines: rows, one request, and how much there is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from shipway.control.predictions import Predictions
from shipway.control.turns import Turns
from shipway.core.access import siblings
from shipway.core.captures import Shape, columns_of
from shipway.core.errors import EndpointNotFound, NotFound
from shipway.core.logged import (
    Answered,
    AnsweredRow,
    Explanation,
    FeedbackSaid,
    LogStats,
    VersionStats,
)
from shipway.core.partitions import Contents, Partition
from shipway.monitoring.processes import run
from shipway.monitoring.questions import Format, Question
from shipway.store.predictions.reading import LogFiles
from shipway.store.sql.database import Database
from shipway.store.staging import Staging

AT_ONCE = 2
"""Questions that are answered at the same time: each may take 512 MB."""

TIMEOUT_S = 60.0


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows of an endpoint's log: all of these hold. `until` is not included."""

    where: str = ""
    columns: tuple[str, ...] = ()
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = 100


class Queries:
    """Questions over one environment's log, each answered by a process of its own. Thread-safe; blocks."""

    def __init__(self, database: Database, predictions: Predictions, *, state_dir: Path) -> None:
        self._database = database
        self._predictions = predictions
        self._staging = Staging(state_dir / "staging")
        self._turns = Turns(
            "questions about the prediction log", at_once=AT_ONCE, wait_s=TIMEOUT_S / 2
        )

    @contextmanager
    def rows(self, endpoint: str, wanted: Wanted, format: Format) -> Iterator[Path]:  # noqa: A002
        """A file with the rows, newest first; it is gone when the block ends.

        Raises:
            EndpointNotFound: there is no such endpoint, nor a log of it.
            InvalidRequest: the condition or a column cannot be used, or it would be too much.
            DeadlineExceeded: it takes too long.
            StoreUnavailable: a file of the log is away or damaged.
            QueueFull: as many questions as may be are being answered, and waiting.
        """
        self._require_known(endpoint)
        with self._staging.new() as directory:
            out = directory / f"rows.{format.value}"
            with (
                self._turns.taken(),
                self._predictions.files(
                    endpoint, version=wanted.version, since=wanted.since, until=wanted.until
                ) as files,
            ):
                question = Question(
                    files=files,
                    out=str(out),
                    temp_dir=str(directory / "spilled"),
                    timeout_s=TIMEOUT_S,
                    where=wanted.where,
                    columns=wanted.columns,
                    limit=wanted.limit,
                    format=format,
                )
                run("query", msgspec.json.encode(question), timeout_s=TIMEOUT_S)
            yield out

    def explain(self, endpoint: str, request_id: str) -> Explanation:
        """All that is stored of one request.

        Raises:
            NotFound: nothing is. Raises else like `rows`.
        """
        self._require_known(endpoint)
        unknown = NotFound(
            f"The log of `{endpoint}` has no request `{request_id}`.",
            next_step="A request is there a few seconds after its answer, if it was captured at all.",
        )
        if not request_id or "\0" in request_id:
            raise unknown
        with (
            self._turns.taken(),
            self._staging.new() as directory,
            self._predictions.files(endpoint) as files,
        ):
            found = self._about(request_id, files, directory)
        if not found["predictions"] and not found["feedback"]:
            raise unknown
        shapes = self._shapes(endpoint)
        return Explanation(
            endpoint=endpoint,
            request_id=request_id,
            answers=tuple(_answers(found["predictions"], shapes)),
            feedback=tuple(_said(row) for row in found["feedback"]),
        )

    def _about(self, request_id: str, files: LogFiles, directory: Path) -> Any:
        question = Question(
            files=files,
            out=str(directory / "request.json"),
            temp_dir=str(directory / "spilled"),
            timeout_s=TIMEOUT_S,
            request_id=request_id,
        )
        run("query", msgspec.json.encode(question), timeout_s=TIMEOUT_S)
        return msgspec.json.decode(Path(question.out).read_bytes())

    def stats(self, endpoint: str) -> LogStats:
        """How much of an endpoint's log is stored.

        Raises:
            EndpointNotFound: there is no such endpoint, nor a log of it.
        """
        self._require_known(endpoint)
        return _stats(endpoint, self._partitions(endpoint))

    def all_stats(self) -> list[LogStats]:
        """The same of every endpoint that has a log, deleted ones too, by name."""
        with self._database.reading() as tx:
            found = tx.partitions.all_of(self._predictions.environment)
        by_name: dict[str, list[Partition]] = {}
        for one in found:
            by_name.setdefault(one.endpoint, []).append(one)
        return [_stats(name, by_name[name]) for name in sorted(by_name)]

    def _partitions(self, endpoint: str) -> list[Partition]:
        with self._database.reading() as tx:
            return tx.partitions.of(self._predictions.environment, endpoint)

    def _shapes(self, endpoint: str) -> dict[int, list[Shape]]:
        """What is kept of each version."""
        with self._database.reading() as tx:
            found = tx.partitions.of(self._predictions.environment, endpoint)
            texts = tx.partitions.shapes(sorted({one.shape for one in found}))
        shapes: dict[int, list[Shape]] = {}
        for text in texts.values():
            shape = msgspec.json.decode(text, type=Shape)
            shapes.setdefault(shape.version, []).append(shape)
        return shapes

    def _require_known(self, endpoint: str) -> None:
        environment = self._predictions.environment
        with self._database.reading() as tx:
            if tx.endpoints.get(environment, endpoint) or tx.partitions.of(environment, endpoint):
                return
            names = [s.spec.name for s in tx.endpoints.list() if s.spec.environment == environment]
        raise EndpointNotFound.named(
            endpoint, siblings(endpoint, names), next_step="`shipway get` lists the endpoints."
        )


def _stats(endpoint: str, partitions: Sequence[Partition]) -> LogStats:
    feedback = [one for one in partitions if one.contents is Contents.FEEDBACK]
    predictions = [one for one in partitions if one.contents is Contents.PREDICTIONS]
    versions: dict[tuple[str, int], list[Partition]] = {}
    for one in predictions:
        versions.setdefault((one.model, one.version), []).append(one)
    return LogStats(
        endpoint=endpoint,
        rows=sum(one.rows for one in predictions),
        feedback_rows=sum(one.rows for one in feedback),
        size_bytes=sum(one.size_bytes for one in partitions),
        files=len(partitions),
        since=min((one.since for one in predictions), default=None),
        until=max((one.until for one in predictions), default=None),
        versions=tuple(_version_stats(key, versions[key]) for key in sorted(versions)),
    )


def _version_stats(key: tuple[str, int], partitions: Sequence[Partition]) -> VersionStats:
    return VersionStats(
        model=key[0],
        version=key[1],
        rows=sum(one.rows for one in partitions),
        size_bytes=sum(one.size_bytes for one in partitions),
        since=min(one.since for one in partitions),
        until=max(one.until for one in partitions),
    )


def _answers(rows: Sequence[dict[str, Any]], shapes: dict[int, list[Shape]]) -> Iterator[Answered]:
    """The rows, those of one answer together."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["_at"], row["_role"], row["_version"]), []).append(row)
    for (at, role, version), group in groups.items():
        known = shapes.get(version, [])
        inputs = {field.name: None for shape in known for field in shape.inputs}
        outputs = {field.name: None for shape in known for field in shape.outputs}
        ins, outs = columns_of(list(inputs), list(outputs))
        yield Answered(
            model=known[0].model if known else "",
            version=version,
            role=role,
            at=datetime.fromisoformat(at),
            latency_ms=group[0]["_latency_ms"],
            principal=group[0]["_principal"],
            segment=group[0]["_segment"],
            key=group[0]["_key"],
            rows=tuple(
                AnsweredRow(
                    inputs={name: row.get(column) for name, column in ins.items()},
                    outputs={name: row.get(column) for name, column in outs.items()},
                )
                for row in group
            ),
        )


def _said(row: dict[str, Any]) -> FeedbackSaid:
    return FeedbackSaid(
        at=datetime.fromisoformat(row["_at"]),
        row=row["_row"],
        id=row["_id"],
        key=row["_key"],
        label=row["label"],
        score=row["score"],
        outcomes=row["outcomes"],
        principal=row["_principal"],
    )
