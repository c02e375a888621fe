"""The routes of the current snapshot, with everything a request needs resolved beforehand."""

from __future__ import annotations

import random
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, partial
from itertools import accumulate
from pathlib import Path
from time import monotonic

import msgspec

from shipway.core.access import project_of, siblings
from shipway.core.captures import Role, Shape
from shipway.core.errors import (
    EndpointNotFound,
    NoReadyReplica,
    QueueFull,
    VersionNotFound,
)
from shipway.core.evidence import TrialReport
from shipway.core.limits import Admission
from shipway.core.rates import Whose
from shipway.core.redaction import NOTHING, Redaction
from shipway.core.telemetry import COLUMNS
from shipway.gateway.cache import SharedStore, cache_for
from shipway.gateway.counters import Counters, Row
from shipway.gateway.doorkeeper import Doorkeeper
from shipway.gateway.gates import Gate
from shipway.gateway.ledger import Bounds, Ledger, MachineLedger
from shipway.gateway.pool import ReplicaPool
from shipway.gateway.pulse import BEAT_S, BEHIND, Pulse
from shipway.gateway.recording import Recorder
from shipway.gateway.runners import InlineRunner, Runner
from shipway.gateway.spool import Spool
from shipway.gateway.trials import LiveTrial, trial_of
from shipway.gateway.variants import LiveVariant
from shipway.wire.open_inference import encode_metadata
from shipway.wire.snapshot import Route, Snapshot, Variant, VariantReport

_PRIMARY = Role.PRIMARY
_NOTHING = (0.0,) * COLUMNS


class LiveRoute:
    """One endpoint: its bounds, and its variants with their cumulated weights.

    Whatever is written down of its requests and answers goes through `redaction` first.
    """

    def __init__(
        self,
        spec: Route,
        variants: list[LiveVariant],
        gate: Gate,
        admission: Admission,
        pulse: Pulse,
    ) -> None:
        self.name = spec.name
        self.max_body_bytes = spec.limits.max_body_bytes
        self.max_queue = spec.limits.max_queue
        self.deadline_s = spec.limits.deadline_ms / 1000
        self.cost = spec.limits.cost
        self.bounds: Bounds = ()
        self.variants = variants
        self.gate = gate
        self.admission = admission
        self.admission.expect(self.deadline_s)
        self._pulse = pulse
        self._patience_s = BEHIND * self.deadline_s + BEAT_S
        self.fallback = spec.fallback
        self.is_diverted = spec.fallback is not None and spec.fallback.always
        self.trial: LiveTrial | None = None
        self.redaction = NOTHING
        self.keeps_predictions = spec.capture is not None
        self._by_number = {variant.number: variant for variant in variants}
        self._weighted = [variant for variant in variants if variant.spec.weight_pct > 0]
        self._bounds = list(accumulate(variant.spec.weight_pct for variant in self._weighted))

    @property
    def is_ready(self) -> bool:
        """Whether every version that gets traffic could answer now; in a rollout, the primary."""
        if self.trial is not None and self.trial.primary.runner.is_ready:
            return True
        return bool(self._weighted) and all(v.runner.is_ready for v in self._weighted)

    def admit(self) -> None:
        """Counts a request in.

        `max_queue` holds over all gateways of the machine. Each looks, compares and then counts; so
        with N of them that do so at the same moment, N - 1 requests too many may be inside.

        Raises:
            QueueFull: the endpoint holds as many requests as it may, or as it can answer in time.
        """
        gate = self.gate
        inside = gate.inside() if gate.others else gate.in_flight
        if inside >= self.max_queue:
            gate.forget_ended()
            inside = gate.inside()
        if inside >= self.max_queue:
            raise QueueFull(
                f"Endpoint `{self.name}` has {inside} requests in flight, its limit.",
                next_step="Retry after the stated time, or raise `limits.max_queue`.",
                retry_after_s=self.admission.retry_after_s(inside),
            )
        if self.admission.in_flight >= self.admission.bound:
            raise self._overload(self.deadline_s)
        if monotonic() - self._pulse.at > self._patience_s:
            raise QueueFull(
                f"The gateway is too far behind to answer `{self.name}` in time.",
                next_step="Retry after the stated time, or add gateways.",
                retry_after_s=1,
            )
        gate.in_flight += 1

    def leave(self) -> None:
        """Counts a request out that may have waited."""
        self.gate.in_flight -= 1
        self.gate.show()

    def leave_at_once(self) -> None:
        """Counts a request out that was answered before the event loop went on."""
        self.gate.in_flight -= 1

    def begin(self, timeout_s: float | None) -> None:
        """Notes that an admitted request waits for the model, for as long as its caller said.

        Raises:
            QueueFull: it would be answered after its caller's own deadline.
        """
        admission = self.admission
        if timeout_s is not None and admission.in_flight >= admission.bound_for(timeout_s):
            raise self._overload(timeout_s)
        admission.enter(monotonic())

    def end(self) -> None:
        """Notes that a request that waited for the model waits no more."""
        self.admission.leave(monotonic())

    def _overload(self, timeout_s: float) -> QueueFull:
        held = self.admission.in_flight
        return QueueFull(
            f"Endpoint `{self.name}` has {held} requests in flight, and"
            f" could not answer one more within {timeout_s:g} s.",
            next_step="Retry after the stated time, or add replicas.",
            retry_after_s=self.admission.retry_after_s(held),
        )

    def choose(self, number: str | None) -> LiveVariant:
        """The variant that answers: the one asked for, else one by weight, in a rollout the primary.

        Raises:
            VersionNotFound: that version is not behind this endpoint.
            NoReadyReplica: no version gets traffic yet.
        """
        if number is not None:
            return self.variant(number)
        if self.trial is not None:
            return self.trial.primary
        if len(self._weighted) == 1:
            return self._weighted[0]
        if not self._weighted:
            raise NoReadyReplica(
                f"Endpoint `{self.name}` has no live version yet.",
                next_step="`shipway status` says what it waits for.",
                retry_after_s=1,
            )
        point = random.random() * self._bounds[-1]
        return next(v for v, end in zip(self._weighted, self._bounds, strict=True) if point < end)

    def variant(self, number: str | None) -> LiveVariant:
        """The variant of that version number.

        For None the primary in a rollout, else the one that gets most traffic.

        Raises:
            VersionNotFound: that version is not behind this endpoint.
            NoReadyReplica: the endpoint has no version at all.
        """
        if number is None:
            if self.trial is not None:
                return self.trial.primary
            if not self.variants:
                raise NoReadyReplica(f"Endpoint `{self.name}` has no version yet.")
            return max(self.variants, key=lambda variant: variant.spec.weight_pct)
        found = self._by_number.get(number)
        if found is None:
            raise VersionNotFound.named(
                f"{self.name}/versions/{number}",
                (f"{self.name}/versions/{known}" for known in self._by_number),
                next_step="GET /v2/models/NAME lists the versions that are up.",
            )
        return found

    def role_of(self, variant: LiveVariant) -> Role:
        """The place of a variant behind the endpoint, for callers that see its answers."""
        if self.trial is None:
            return _PRIMARY
        return Role.CANDIDATE if variant is self.trial.candidate else _PRIMARY

    def metadata(self, number: str | None) -> bytes:
        """The Open Inference metadata answer."""
        variant = self.variant(number)
        serving = (
            self.trial.primary if self.trial else max(self._weighted, key=_weight_of, default=None)
        )
        return encode_metadata(
            self.name,
            list(self._by_number),
            variant.spec.platform,
            variant.spec.signature,
            serving=serving.spec.key if serving is not None else "",
        )


class RouteTable:
    """Swaps snapshots in, keeps what they share, and lets the rest finish its requests."""

    def __init__(  # noqa: PLR0913 - what the routes share
        self,
        on_change: Callable[[], None],
        *,
        shared_cache: SharedStore | None = None,
        pulse: Pulse | None = None,
        counters: Counters | None = None,
        door: Doorkeeper | None = None,
        ledger: Ledger | None = None,
        redaction_key: Callable[[], bytes] | None = None,
        spool: Spool | None = None,
    ) -> None:
        """With a `shared_cache`, endpoints that have a cache keep their answers there.

        With a `pulse`, requests are refused that waited too long for the event loop. `counters` are
        this gateway's, and `ledger` what counts the use of limits; without, it counts for itself alone.
        `redaction_key` is asked once, when an endpoint redacts; without it, hashes match no other gateway's.
        `spool` takes the predictions of endpoints that capture them; without, none are kept.
        """
        self.revision = ""
        self.counters = counters or Counters()
        self.lost = self.counters.row("")
        self.ledger: Ledger = ledger or MachineLedger()
        self._shared_cache = shared_cache
        self._redaction_key = cache(redaction_key or partial(secrets.token_bytes, 32))
        self.spool = spool
        self.pulse = pulse or Pulse()
        self.door = door or Doorkeeper()
        self._routes: dict[str, LiveRoute] = {}
        self._gates: dict[str, Gate] = {}
        self._leaving: list[LiveVariant] = []
        self._on_change = on_change

    def route(self, name: str) -> LiveRoute:
        """The endpoint of that name.

        Raises:
            EndpointNotFound: there is none; the nearest name is in the message.
        """
        found = self._routes.get(name)
        if found is None:
            raise EndpointNotFound.named(
                name, siblings(name, self._routes), next_step="`shipway get` lists the endpoints."
            )
        return found

    def routes(self) -> Iterable[LiveRoute]:
        """All endpoints, in name order."""
        return self._routes.values()

    def apply(self, snapshot: Snapshot) -> None:
        """Makes the snapshot current, at once; new variants load in the background."""
        known = {_identity(v.endpoint, v.spec): v for v in self._all_variants()}
        routes: dict[str, LiveRoute] = {}
        for spec in snapshot.routes:
            variants = [self._variant(spec, variant, known) for variant in spec.variants]
            redaction = self._redaction(spec)
            for variant in variants:
                variant.recorder = self._recorder(spec, variant, redaction)
            before = self._routes.get(spec.name)
            gate = self._gate(spec.name)
            admission = before.admission if before else Admission()
            route = LiveRoute(spec, variants, gate, admission, self.pulse)
            route.bounds = self._bounds_of(spec, snapshot)
            route.redaction = redaction
            route.trial = trial_of(spec, variants, before.trial if before else None, redaction)
            routes[spec.name] = route
        self._let_trials_go(routes)
        self._routes, self.revision = routes, snapshot.revision
        self.door.apply(snapshot.access, self._bounds_of_keys(snapshot))
        self.counters.look()
        self.see_others()
        kept = {id(variant) for route in routes.values() for variant in route.variants}
        self._leaving = [v for v in known.values() if id(v) not in kept]
        for variant in self._leaving:
            variant.spec = msgspec.structs.replace(variant.spec, weight_pct=0)
            if isinstance(variant.runner, ReplicaPool):
                variant.runner.waking.give_up(f"{variant.spec.key} is no longer served here.")
        self.sweep()
        self._on_change()

    def _bounds_of(self, spec: Route, snapshot: Snapshot) -> Bounds:
        """What bounds an endpoint: its own limits, and those of its project."""
        project = project_of(spec.name)
        limits = snapshot.access.projects.get(project)
        return (
            *self.ledger.bound(Whose.ENDPOINT, spec.name, spec.limits.over_all_callers),
            *self.ledger.bound(Whose.PROJECT, project, limits),
        )

    def _bounds_of_keys(self, snapshot: Snapshot) -> dict[str, Bounds]:
        return {
            key.id: self.ledger.bound(Whose.KEY, key.id, key.limits)
            for key in snapshot.access.keys
            if key.limits is not None
        }

    def _let_trials_go(self, routes: dict[str, LiveRoute]) -> None:
        """Ends what is under way for trials that are not among these routes."""
        kept = {id(route.trial) for route in routes.values()}
        for route in self._routes.values():
            if route.trial is not None and id(route.trial) not in kept:
                route.trial.close()

    def trials(self) -> dict[str, TrialReport]:
        """What was seen of the rollouts under way, by endpoint."""
        return {r.name: r.trial.report for r in self._routes.values() if r.trial is not None}

    def counted(
        self, variants: Iterable[LiveVariant]
    ) -> Iterator[tuple[LiveVariant, Sequence[float]]]:
        """Each variant with its row, summed over all gateways of the machine. Reads files."""
        sums = self.counters.sums()
        for variant in variants:
            yield variant, sums.get((variant.endpoint, variant.spec.key), _NOTHING)

    def see_others(self) -> None:
        """Lets each endpoint's limit count what is inside the other gateways seen last."""
        for route in self._routes.values():
            route.gate.others = self.counters.others_inside(route.name)

    def sweep(self) -> None:
        """Closes the variants that left and have answered their last request; drops old answers.

        Lets the rollouts under way learn from the answers seen since.
        """
        for variant in self._leaving:
            if variant.in_flight == 0:
                variant.close()
        self._leaving = [variant for variant in self._leaving if variant.in_flight > 0]
        for variant in self._all_variants():
            if variant.cache is not None:
                variant.cache.expire()
        for route in self._routes.values():
            if route.trial is not None:
                route.trial.learn()

    def reports(self) -> tuple[VariantReport, ...]:
        """What control is told of every variant, those on their way out included."""
        return tuple(variant.report() for variant in self._all_variants())

    async def loaded(self) -> None:
        """Returns when every inline variant was loaded, or could not be at the first attempt."""
        for variant in self._all_variants():
            if isinstance(variant.runner, InlineRunner):
                await variant.runner.tried.wait()

    def close(self) -> None:
        """Lets every variant go."""
        self.pulse.stop()
        self._let_trials_go({})
        for variant in self._all_variants():
            variant.close()
        self.counters.close()

    def _all_variants(self) -> list[LiveVariant]:
        return [v for route in self._routes.values() for v in route.variants] + self._leaving

    def _gate(self, name: str) -> Gate:
        """The endpoint's gate, the one from before where it was deleted with requests inside."""
        if name not in self._gates:
            self._gates[name] = Gate(
                self.counters.row(name), partial(self.counters.others_alive, name)
            )
        return self._gates[name]

    def _redaction(self, route: Route) -> Redaction:
        if route.capture is None or not route.capture.hashes:
            return NOTHING
        return Redaction(route.capture, self._redaction_key())

    def _recorder(
        self, route: Route, variant: LiveVariant, redaction: Redaction
    ) -> Recorder | None:
        """What keeps a variant's predictions; the one from before where nothing of it has changed."""
        before, capture = variant.recorder, route.capture
        if capture is None or self.spool is None:
            return None
        if before is not None and before.capture == capture:
            return before
        shape = Shape.of(
            environment=self.spool.environment,
            endpoint=route.name,
            version=(variant.spec.model, variant.spec.version),
            signature=variant.spec.signature,
        )
        return Recorder(capture, shape, spool=self.spool, redaction=redaction, row=variant.row)

    def _variant(
        self, route: Route, spec: Variant, known: dict[tuple[str, ...], LiveVariant]
    ) -> LiveVariant:
        variant = known.get(_identity(route.name, spec))
        if variant is None:
            row = self.counters.row(route.name, spec.key)
            variant = LiveVariant(route.name, spec, self._runner(spec, row), row)
        variant.spec = spec
        deadline_s = route.limits.deadline_ms / 1000
        # A shared store writes answers down in clear, under keys that can be guessed by trying inputs.
        is_redacted = route.capture is not None and bool(route.capture.redact)
        shared = None if is_redacted else self._shared_cache
        variant.cache = cache_for(
            route.cache, spec, variant.runner, before=variant.cache, shared=shared
        )
        if variant.cache is not None:
            variant.cache.deadline_s = deadline_s
            variant.cache.row = variant.row
        if isinstance(variant.runner, InlineRunner):
            variant.runner.redacts = is_redacted
        if isinstance(variant.runner, ReplicaPool):
            variant.runner.expect(spec.replicas, deadline_s=deadline_s)
            variant.runner.waking.follow(spec)
        return variant

    def _runner(self, spec: Variant, row: Row) -> Runner:
        if not spec.inline:
            pool = ReplicaPool(on_change=self._on_change)
            pool.row = row
            return pool
        runner = InlineRunner(Path(spec.bundle_dir), spec.digest, on_change=self._on_change)
        runner.row = row
        return runner


def _weight_of(variant: LiveVariant) -> int:
    return variant.spec.weight_pct


def _identity(endpoint: str, spec: Variant) -> tuple[str, ...]:
    """What makes two variants of successive snapshots the same running thing."""
    return (endpoint, spec.key, spec.digest, "inline" if spec.inline else "process")
