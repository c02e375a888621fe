"""What a run needs of the registry and the log, put together for its process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from shipway.control.registry import Registry
from shipway.core.durations import duration_of
from shipway.core.endpoints import EndpointState
from shipway.core.errors import BundleCorrupt, EndpointNotFound
from shipway.core.monitor_runs import MonitorRun, Trigger
from shipway.core.monitors import BASELINE, OF_TRUTHS, TRAILING, Against, MonitorKind
from shipway.core.profile import Profile
from shipway.core.registry import VersionRecord
from shipway.core.signature import Field
from shipway.core.targets import target_of
from shipway.core.versions import VersionQuery
from shipway.monitoring.order import EARLIER_WINDOWS, Order
from shipway.store.predictions.reading import LogFiles

_DAY = timedelta(days=1)


class Log(Protocol):
    """The prediction log of the environment."""

    def files(
        self,
        endpoint: str,
        *,
        version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> AbstractContextManager[LogFiles]:
        """The files that hold it, near at hand for as long as the block lasts.

        Raises:
            InvalidRequest: they are too much at once.
        """


class Orders:
    """Orders of runs. Thread-safe; methods block and may raise StoreUnavailable."""

    def __init__(self, registry: Registry, log: Log) -> None:
        self._registry = registry
        self._log = log

    @contextmanager
    def opened(self, run: MonitorRun, state: EndpointState, directory: Path) -> Iterator[Order]:
        """The order of a run, whose files are there until the block ends.

        Raises:
            EndpointNotFound: no version of the endpoint has served.
            ModelNotFound, VersionNotFound, BundleCorrupt: its version is not there.
            InvalidRequest: the log is too much at once.
        """
        record = self._served(state)
        profile = self._profile(record)
        against = run.monitor.reference(has_baseline=profile is not None)
        with ExitStack() as stack:
            order = self._window(stack, run, state, record, directory)
            if run.monitor.kind in OF_TRUTHS:
                yield self._labelled(stack, order, run, record)
            elif against == BASELINE:
                # A baseline that was asked for and is not there leaves nothing to compare with.
                nothing = Profile(rows=0, columns={})
                words = f"the baseline of {record.ref}"
                yield msgspec.structs.replace(order, profile=profile or nothing, reference=words)
            else:
                assert isinstance(against, Against)
                yield self._compared(stack, order, run, record, against)

    def _served(self, state: EndpointState) -> VersionRecord:
        if state.active is None:
            raise EndpointNotFound(
                f"No version of endpoint `{state.spec.name}` serves yet.",
                next_step="Deploy one: `shipway deploy`.",
            )
        return self._registry.version(VersionQuery(state.active.model, number=state.active.number))

    def _profile(self, record: VersionRecord) -> Profile | None:
        path = record.manifest.content.profile
        if path is None:
            return None
        query = VersionQuery(record.model, number=record.number)
        try:
            return msgspec.json.decode(self._registry.file(query, path), type=Profile)
        except msgspec.MsgspecError as exc:
            raise BundleCorrupt(
                f"`{path}` of {record.ref} is not a baseline profile: {exc}.",
                next_step="Package and register the model again.",
            ) from exc

    def _window(
        self,
        stack: ExitStack,
        run: MonitorRun,
        state: EndpointState,
        record: VersionRecord,
        directory: Path,
    ) -> Order:
        signature = record.manifest.content.signature
        start, end = run.window.since, run.window.until
        files = self._log.files(run.endpoint, version=record.number, since=start, until=end)
        return Order(
            title=f"{run.monitor.label} of {run.endpoint} ({record.ref})",
            version=record.number,
            monitor=run.monitor,
            files=_answers(stack.enter_context(files)),
            inputs=_as_they_were(signature.inputs, state),
            outputs=_as_they_were(signature.outputs, state),
            batchable=signature.batchable,
            start=start,
            end=end,
            reference="",
            runs_per_week=run.monitor.schedule(run.endpoint).runs_per_week(run.due_at),
            directory=str(directory),
            traffic=self._traffic(stack, run, start=start, end=end),
            always_drawn=run.trigger is Trigger.PERSON,
        )

    def _traffic(
        self, stack: ExitStack, run: MonitorRun, *, start: datetime, end: datetime
    ) -> LogFiles | None:
        if run.monitor.kind is not MonitorKind.QUALITY:
            return None
        since = start - max(end - start, _DAY) * EARLIER_WINDOWS
        return _answers(stack.enter_context(self._log.files(run.endpoint, since=since, until=end)))

    def _labelled(
        self, stack: ExitStack, order: Order, run: MonitorRun, record: VersionRecord
    ) -> Order:
        against = run.monitor.reference(has_baseline=False)
        assert isinstance(against, Against)
        trailing = against.trailing or TRAILING
        since = order.start - duration_of(trailing, name="against.trailing")
        content = record.manifest.content
        kept = msgspec.structs.replace(content.signature, outputs=order.outputs)
        # Not bounded by version and end: see `monitoring.matching`.
        return msgspec.structs.replace(
            order,
            files=LogFiles(),
            reference=f"the {trailing} before",
            reference_start=since,
            reference_end=order.start,
            labelled=stack.enter_context(self._log.files(run.endpoint, since=since)),
            target=target_of(kept, content.config, content.classes),
        )

    def _compared(
        self,
        stack: ExitStack,
        order: Order,
        run: MonitorRun,
        record: VersionRecord,
        against: Against,
    ) -> Order:
        version, since, until = record.number, order.start, order.end
        words = f"version {against.version} in the same window"
        if against.trailing is not None:
            words = f"the {against.trailing} before"
            until = order.start
            since = until - duration_of(against.trailing, name="against.trailing")
        elif against.version is not None:
            version = against.version
        log = self._log.files(run.endpoint, version=version, since=since, until=until)
        files = stack.enter_context(log)
        return msgspec.structs.replace(
            order,
            reference=words,
            # Another version may have had nothing but copies, and they say as much of it.
            reference_files=files if against.version is not None else _answers(files),
            reference_start=since,
            reference_end=until,
        )


def _answers(files: LogFiles) -> LogFiles:
    """What callers got: copies for shadows would count their requests twice."""
    return msgspec.structs.replace(files, shadows=False)


def _as_they_were(fields: tuple[Field, ...], state: EndpointState) -> tuple[Field, ...]:
    """The fields whose values are kept unchanged: a mask or a hash is not what the model saw."""
    capture = state.spec.capture
    redacted = {rule.field for rule in capture.rules} if capture is not None else set()
    return tuple(field for field in fields if field.name not in redacted)
