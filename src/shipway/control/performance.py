"""How endpoints do live: measured by a process of its own, and remembered for a short time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from threading import Lock
from time import monotonic

import msgspec

from shipway.control.predictions import Predictions
from shipway.control.turns import Turns
from shipway.core.access import siblings
from shipway.core.bundles import Content
from shipway.core.captures import Shape
from shipway.core.capturing import Capture
from shipway.core.errors import EndpointNotFound, NotFound
from shipway.core.partitions import Contents, Partition
from shipway.core.performance import By, Performance
from shipway.core.targets import Target, target_of
from shipway.core.versions import VersionRef
from shipway.monitoring.assessment import Order
from shipway.monitoring.matching import Range
from shipway.monitoring.processes import run
from shipway.store.sql.database import Database, Transaction
from shipway.store.staging import Staging

AT_ONCE = 1
"""Measurements at the same time: each may take 512 MB."""

TIMEOUT_S = 120.0
FRESH_S = 15.0
"""So long an answer is given again to the same question."""

MOST_KEPT = 64


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to know of an endpoint; `until` is not included."""

    endpoint: str
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    by: By | None = None


class Performances:
    """The live performance of one environment's endpoints. Thread-safe; blocks."""

    def __init__(
        self,
        database: Database,
        predictions: Predictions,
        *,
        state_dir: Path,
        clock_s: Callable[[], float] = monotonic,
    ) -> None:
        self._database = database
        self._predictions = predictions
        self._staging = Staging(state_dir / "staging")
        self._clock_s = clock_s
        self._turns = Turns("measurements of performance", at_once=AT_ONCE, wait_s=TIMEOUT_S / 4)
        self._lock = Lock()
        self._kept: dict[Asked, tuple[float, Performance]] = {}

    def of(self, asked: Asked) -> Performance:
        """How the endpoint did; for some seconds the same answer to the same question.

        Raises:
            EndpointNotFound: there is no such endpoint, nor a log of it.
            InvalidRequest: there is more to tell apart than can be.
            DeadlineExceeded: it takes too long.
            QueueFull: as many as may be are measured, and waiting.
        """
        targets = self._targets(asked.endpoint)
        known = self._fresh(asked)
        if known is not None:
            return known
        with self._turns.taken():
            # Somebody with the same question may have been waited for.
            found = self._fresh(asked) or self._measured(asked, targets)
        self._keep(asked, found)
        return found

    def _fresh(self, asked: Asked) -> Performance | None:
        with self._lock:
            at, found = self._kept.get(asked, (0.0, None))
        return found if self._clock_s() - at < FRESH_S else None

    def _keep(self, asked: Asked, found: Performance) -> None:
        with self._lock:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[asked] = self._clock_s(), found

    def _measured(self, asked: Asked, targets: dict[str, Target]) -> Performance:
        # Not bounded by version and end: see `monitoring.matching`.
        with (
            self._staging.new() as directory,
            self._predictions.files(asked.endpoint, since=asked.since) as files,
        ):
            order = Order(
                endpoint=asked.endpoint,
                files=files,
                targets=targets,
                wanted=Range(version=asked.version, since=asked.since, until=asked.until),
                temp_dir=str(directory / "spilled"),
                timeout_s=TIMEOUT_S,
                by=asked.by,
            )
            said = run("assess", msgspec.json.encode(order), timeout_s=TIMEOUT_S)
        return msgspec.json.decode(said, type=Performance)

    def _targets(self, endpoint: str) -> dict[str, Target]:
        """What the truth is compared with, by the number of the version."""
        environment = self._predictions.environment
        with self._database.reading() as tx:
            state = tx.endpoints.get(environment, endpoint)
            files = [
                one
                for one in tx.partitions.of(environment, endpoint)
                if one.contents is Contents.PREDICTIONS
            ]
            if state is None and not files:
                raise _unknown(tx, environment, endpoint)
            capture = None if state is None else state.spec.capture
            return dict(_targets_of(tx, files, capture))


def _targets_of(
    tx: Transaction, files: Sequence[Partition], capture: Capture | None
) -> Iterator[tuple[str, Target]]:
    """Of each version that files hold, by what was kept of it last."""
    newest = {one.version: one for one in sorted(files, key=lambda file: file.until)}
    shapes = tx.partitions.shapes(sorted({one.shape for one in newest.values()}))
    for version, one in newest.items():
        record = tx.versions.get(VersionRef(one.model, version))
        if record is None or one.shape not in shapes:
            continue
        shape = msgspec.json.decode(shapes[one.shape], type=Shape)
        target = _target(record.manifest.content, shape, capture)
        if target is not None:
            yield str(version), target


def _target(content: Content, shape: Shape, capture: Capture | None) -> Target | None:
    """The target among the outputs that are kept as they were: a hash is compared with nothing."""
    own = {field.name: field.dtype for field in content.signature.outputs}
    redacted = () if capture is None else {rule.field for rule in capture.rules}
    kept = tuple(
        field
        for field in shape.outputs
        if field.name not in redacted and own.get(field.name) is field.dtype
    )
    signature = msgspec.structs.replace(content.signature, inputs=shape.inputs, outputs=kept)
    return target_of(signature, content.config, content.classes)


def _unknown(tx: Transaction, environment: str, endpoint: str) -> NotFound:
    names = [s.spec.name for s in tx.endpoints.list() if s.spec.environment == environment]
    return EndpointNotFound.named(
        endpoint, siblings(endpoint, names), next_step="`shipway get` lists the endpoints."
    )
