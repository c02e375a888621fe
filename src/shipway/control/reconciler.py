"""The loop that makes what runs become what was declared.

It looks, compiles the snapshot, plans, and carries the plan out; each quarter of a second, and at
once when something changed. It keeps nothing that it could not see again: killed at any
instruction, the next one goes on.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import assert_never

import msgspec

from shipway.backends.port import Backend, ReplicaOrder
from shipway.control.access import Access
from shipway.control.budget import Look
from shipway.control.capacity import Capacity
from shipway.control.changes import Request, put
from shipway.control.deploying import accept, to_follow
from shipway.control.gateways import Gateways
from shipway.control.local_versions import LocalVersions
from shipway.control.published import PublishedHistory
from shipway.control.snapshots import compiled
from shipway.control.trials import Sums, Trials
from shipway.control.views import Seen, desired_of
from shipway.core.backoff import pause_s
from shipway.core.deployments import activated, failed, released, stepped
from shipway.core.endpoints import EndpointState
from shipway.core.errors import CallerError, ConflictError, ShipwayError
from shipway.core.observed import Desired, Observed
from shipway.core.reconcile import (
    Action,
    Activate,
    BeginRollout,
    FailTarget,
    ForgetReplica,
    KillReplica,
    Move,
    MoveRollout,
    StartReplica,
    StopReplica,
    plan,
    wanted_versions,
)
from shipway.store.sql.database import Database
from shipway.wire.kept import keep_snapshot, kept_snapshot
from shipway.wire.snapshot import AccessList, GatewayReport, Snapshot

TICK_S = 0.25
ACTOR = "shipway"
"""Who the audit record names for what no person did."""

_log = logging.getLogger(__name__)


class _Read(msgspec.Struct, frozen=True):
    """What the database said at one look. `followers` are endpoints whose alias means something new."""

    states: list[EndpointState]
    sums: dict[str, Sums]
    followers: tuple[str, ...]
    access: AccessList


class Reconciler:
    """Keeps the endpoints of one environment as they were declared. Lives in one event loop."""

    def __init__(  # noqa: PLR0913 - what it works with, and what it works on
        self,
        database: Database,
        backend: Backend,
        *,
        access: Access,
        local: Callable[..., LocalVersions],
        environment: str,
        clock: Callable[[], datetime],
        memory: Path,
        capacity: Capacity | None = None,
    ) -> None:
        """`memory` is the file that remembers what was published last, over a restart."""
        self._capacity = capacity or Capacity()
        self._history = PublishedHistory()
        self._database = database
        self._access = access
        self._backend = backend
        self._local = local(on_change=self.poke)
        self._environment = environment
        self._clock = clock
        self._gateways = Gateways(started_s=monotonic())
        self._trials = Trials()
        self._refusals: dict[str, str] = {}
        self._news = asyncio.Event()
        self._snapshot: Snapshot | None = None
        self._memory = memory
        self._remembered = kept_snapshot(memory)
        self._published = asyncio.Event()
        self._is_closing = False
        self._failures = 0
        self.seen = Seen(
            observed=Observed(replicas=(), gateways=(), revision="", settled=False),
            gateways=(),
            local={},
            at=clock(),
        )

    def poke(self) -> None:
        """Lets the next look happen at once. Call it in the loop's own thread."""
        self._news.set()

    async def run(self) -> None:
        """Reconciles until cancelled."""
        await self._backend.open()
        try:
            while True:
                self._news.clear()
                await self._tick_safely()
                with suppress(TimeoutError):
                    # Not `wait_for`: on Python 3.11 it loses a cancellation that meets the news.
                    async with asyncio.timeout(TICK_S + pause_s(self._failures)):
                        await self._news.wait()
        finally:
            await self._local.close()
            await self._backend.close()

    async def snapshot_after(self, revision: str, *, wait_s: float) -> Snapshot | None:
        """The present snapshot, as soon as there is one of another revision; None after the wait."""
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                while not self._is_closing and (
                    self._snapshot is None or self._snapshot.revision == revision
                ):
                    await self._published.wait()
        if self._snapshot is None or self._snapshot.revision == revision:
            return None
        return self._snapshot

    def note_report(self, report: GatewayReport) -> None:
        """Takes in what a gateway says."""
        self._trials.note(report)
        if self._gateways.note(report, self._clock(), steady_s=monotonic()):
            self.poke()

    def release_waiters(self) -> None:
        """Answers every waiting gateway now, because this process is about to end."""
        self._is_closing = True
        self._wake_waiters()

    async def _tick_safely(self) -> None:
        failures = self._failures
        try:
            await self._tick()
            if self._failures == failures:
                self._failures = 0
        except ShipwayError as exc:
            self._failures += 1
            _log.warning("The endpoints cannot be looked after now: %s", exc)
        except Exception:  # noqa: BLE001 - the outermost frame of the loop
            self._failures += 1
            _log.exception("The endpoints cannot be looked after now")

    async def _tick(self) -> None:
        read = await asyncio.to_thread(self._read)
        states = read.states
        now, steady_s = self._clock(), monotonic()
        self._local.want({v for state in states for v in wanted_versions(state, now)})
        known = dict(self._local.known)
        observed = Observed(
            replicas=self._backend.observe(),
            gateways=self._gateways.evidence(steady_s),
            revision="",
            settled=self._gateways.is_settled(steady_s),
        )
        look = Look(observed=observed, local=known, now=now, steady_s=steady_s)
        desired = self._capacity.decided([desired_of(state, known) for state in states], look)
        published = self._snapshot or self._remembered
        desired = [self._with_evidence(one, read, look) for one in desired]
        snapshot = compiled(
            desired, known, observed.replicas, now, published=published, access=read.access
        )
        await self._publish(snapshot)
        observed = self._history.placed(observed, snapshot)
        self.seen = Seen(
            observed=observed,
            gateways=self._gateways.live(steady_s),
            local=known,
            at=now,
            decided={one.state.spec.name: one for one in desired},
            woken=dict(self._capacity.woken),
            refusals=dict(self._refusals),
        )
        self._trials.keep_only(s.releasing for s in states if s.releasing is not None)
        self._refusals = {n: why for n, why in self._refusals.items() if n in read.followers}
        for name in read.followers:
            await self._follow_safely(name)
        for action in plan(desired, observed, now):
            _log.info("%s", _line(action))
            if await self._carried_out(action):
                self.poke()

    def _read(self) -> _Read:
        with self._database.reading() as tx:
            states = [s for s in tx.endpoints.list() if s.spec.environment == self._environment]
            rollouts = [state.releasing for state in states]
            sums: dict[str, Sums] = {
                r.endpoint: tx.outcomes.of(r.id) for r in rollouts if r is not None
            }
            moved = tuple(state.spec.name for state in states if to_follow(tx, state))
            access = self._access.listed(tx, self._clock())
        return _Read(states=states, sums=sums, followers=moved, access=access)

    def _with_evidence(self, one: Desired, read: _Read, look: Look) -> Desired:
        rollout = one.state.releasing
        if rollout is None:
            return one
        evidence = self._trials.evidence(
            one,
            rollout,
            look.observed,
            sums=read.sums.get(rollout.endpoint, {}),
            now=look.now,
            steady_s=look.steady_s,
        )
        return msgspec.structs.replace(one, evidence=evidence)

    def _follow(self, name: str) -> None:
        """Lets an endpoint change to what its alias means now."""
        request = Request(actor=ACTOR, now=self._clock())
        with self._database.transaction() as tx:
            state = tx.endpoints.get(self._environment, name)
            if state is None or not to_follow(tx, state):
                return
            reason = f"`{state.spec.model}` moved."
            request = msgspec.structs.replace(request, reason=reason)
            change = accept(tx, state.spec, request, releases_memory=self._capacity.is_bounded)
            if change.after != change.before:
                put(tx, change.before, change.after, request, "endpoint.follow")

    async def _follow_safely(self, name: str) -> None:
        """Says why an endpoint does not follow its alias, once for each reason."""
        try:
            await asyncio.to_thread(self._follow, name)
        except (CallerError, ConflictError) as exc:
            if self._refusals.get(name) != str(exc):
                _log.warning("Endpoint %s does not follow its alias: %s", name, exc)
            self._refusals[name] = str(exc)
        else:
            self._refusals.pop(name, None)

    async def _publish(self, snapshot: Snapshot | None) -> None:
        before = self._snapshot.revision if self._snapshot is not None else ""
        if snapshot is not None and snapshot.revision != before:
            self._history.note(snapshot)
            self._snapshot = snapshot
            self._wake_waiters()
            await asyncio.to_thread(keep_snapshot, self._memory, snapshot)

    def _wake_waiters(self) -> None:
        self._published.set()
        self._published = asyncio.Event()

    async def _carried_out(self, action: Action) -> bool:
        """Carries it out. What one endpoint's raises unexpectedly must not cost the others theirs."""
        try:
            await self._carry_out(action)
        except ShipwayError:
            raise
        except Exception:  # noqa: BLE001 - the loop's outermost frame
            self._failures += 1
            _log.exception("%s cannot be carried out", _line(action))
            return False
        return True

    async def _carry_out(self, action: Action) -> None:
        match action:
            case StartReplica():
                self._start(action)
            case StopReplica() | ForgetReplica():
                self._backend.stop(action.id)
            case KillReplica():
                self._backend.kill(action.id, action.reason)
            case Activate() | FailTarget() | BeginRollout() | MoveRollout():
                await asyncio.to_thread(self._move, action)
            case _:
                assert_never(action)

    def _start(self, action: StartReplica) -> None:
        local = self.seen.local.get(action.version)
        if local is None or local.record is None or local.bundle_dir is None:
            return
        name = f"{action.endpoint}-{action.version.number}-{action.slot}-{secrets.token_hex(3)}"
        self._backend.start(
            ReplicaOrder(
                id=name,
                endpoint=action.endpoint,
                version=action.version,
                slot=action.slot,
                generation=action.generation,
                max_batch_rows=action.max_batch_rows,
                max_batch_delay_ms=action.max_batch_delay_ms,
                secrets=action.secrets,
                redacts=action.redacts,
                sandbox=action.sandbox,
                digest=local.record.digest,
                bundle_dir=local.bundle_dir,
                environment=local.record.manifest.content.environment,
            )
        )

    def _move(self, action: Move) -> None:
        """One transaction; nothing when the endpoint has changed since the plan was made."""
        now = self._clock()
        with self._database.transaction() as tx:
            before = tx.endpoints.get(self._environment, action.endpoint)
            # The target too: an endpoint deleted and made again counts its generations anew.
            if before is None or before.target != action.target:
                return
            if before.generation != action.generation:
                return
            after, verb = _moved(before, action, now)
            put(tx, before, after, Request(actor=ACTOR, now=now, reason=after.message), verb)


def _line(action: Action) -> str:
    """The action in a line; the evidence of a rollout's move is on the audit record."""
    if not isinstance(action, MoveRollout):
        return str(action)
    decision = action.decision
    return f"Rollout of {action.target} on {action.endpoint}: {decision.event}: {decision.message}"


def _moved(before: EndpointState, action: Move, now: datetime) -> tuple[EndpointState, str]:
    """The endpoint after the action, and what the audit record calls it."""
    match action:
        case Activate():
            return activated(before, now), "endpoint.activate"
        case FailTarget():
            return failed(before, action.message, now), "endpoint.fail"
        case BeginRollout():
            return released(before, now), "rollout.begin"
        case MoveRollout():
            verb = f"rollout.{action.decision.event.value}"
            return stepped(before, action.decision, now), verb
        case _:
            assert_never(action)
