"""The use cases of rollouts: looking at them, and a person's word on them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isfinite

import msgspec

from shipway.control.admission import require_standing
from shipway.control.changes import Request, put
from shipway.control.rollout_views import RolloutView, rollout_view, worst_pairs
from shipway.control.views import Seen
from shipway.core.access import siblings
from shipway.core.assignment import is_moved, key_text, place_of
from shipway.core.deployments import stepped
from shipway.core.endpoints import EndpointState
from shipway.core.errors import EndpointNotFound, InvalidRequest, RolloutNotFound
from shipway.core.evidence import Evidence, Moments, Pair, TrialReport
from shipway.core.rollouts import Decision, Event, Rollout
from shipway.core.strategies import FEEDBACK, MOST_METRIC_LENGTH
from shipway.store.sql.database import Database, Transaction

MOST_OUTCOMES = 10_000
"""Outcomes taken in one request."""

MOST_ID_LENGTH = 255

_WORDS = {
    Event.PAUSE: "Paused by hand.",
    Event.RESUME: "Let go on by hand.",
    Event.PROMOTE: "Promoted by hand.",
    Event.ABORT: "Aborted by hand.",
}


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened after a prediction: a sale (1 or 0), its amount, whether it was right.

    `version` is the number that answered (every answer names it); `key` in its place is the sticky key
    of the caller. An `id` makes one that is posted twice count once.
    """

    metric: str
    value: float
    version: str | None = None
    key: str | None = None
    id: str | None = None


class Counted(msgspec.Struct, frozen=True, kw_only=True):
    """How many outcomes were counted, how many were known already, and how many fit no version."""

    counted: int
    known: int
    unmatched: int


class Rollouts:
    """Rollouts over a database. Thread-safe; methods block and may raise StoreUnavailable.

    `seen` gives what the reconciler saw last, `poke` wakes it.
    """

    def __init__(
        self,
        database: Database,
        *,
        environment: str,
        seen: Callable[[], Seen],
        poke: Callable[[], None],
    ) -> None:
        self._database = database
        self._environment = environment
        self._seen = seen
        self._poke = poke

    def status(self, endpoint: str) -> RolloutView:
        """The endpoint's rollout, or its last one.

        Raises:
            EndpointNotFound: there is no such endpoint.
            RolloutNotFound: it has had no rollout.
        """
        with self._database.reading() as tx:
            state = self._existing(tx, endpoint)
        return self._view(state, _last(state))

    def history(self, endpoint: str, *, limit: int) -> tuple[RolloutView, ...]:
        """The endpoint's rollouts, newest first.

        Raises:
            EndpointNotFound: there is no such endpoint.
        """
        with self._database.reading() as tx:
            state = self._existing(tx, endpoint)
            found = tx.rollouts.of(self._environment, endpoint, limit=limit)
        return tuple(self._view(state, rollout) for rollout in found)

    def pairs(self, endpoint: str) -> tuple[Pair, ...]:
        """The mirrored requests on which the versions differed most, worst first.

        Raises:
            EndpointNotFound: there is no such endpoint.
            RolloutNotFound: it has had no rollout.
        """
        with self._database.reading() as tx:
            state = self._existing(tx, endpoint)
        rollout = _last(state)
        return worst_pairs(rollout, self._evidence(rollout))

    def act(self, endpoint: str, event: Event, request: Request) -> RolloutView:
        """Pauses, resumes, promotes or aborts the rollout under way.

        Raises:
            EndpointNotFound: there is no such endpoint.
            RolloutNotPossible: there is no rollout, or it is not in a phase for that.
            PolicyUnmet: it shall go on, and the candidate's promotion was withdrawn meanwhile.
        """
        with self._database.transaction() as tx:
            before = self._existing(tx, endpoint)
            if event in (Event.RESUME, Event.PROMOTE):
                then = f"or end it with `shipway rollout abort {endpoint}`"
                require_standing(tx, before, then=then)
            words = f"{_WORDS[event]} {request.reason}".strip()
            decision = Decision(event=event, message=words, seen=self._step_of(before))
            after = stepped(before, decision, request.now)
            if not request.dry_run:
                put(tx, before, after, request, f"rollout.{event.value}")
        self._poke()
        return self._view(after, _last(after))

    def record_outcomes(self, endpoint: str, outcomes: Sequence[Outcome]) -> Counted:
        """Counts outcomes for the rollout under way; those of other versions are left out.

        Raises:
            EndpointNotFound: there is no such endpoint.
            RolloutNotFound: no rollout is under way.
            InvalidRequest: there are too many, or one has no finite value, or neither version nor key.
        """
        _check(outcomes)
        with self._database.transaction() as tx:
            state = self._existing(tx, endpoint)
            rollout = state.releasing
            if rollout is None:
                raise RolloutNotFound(
                    f"Endpoint `{endpoint}` has no rollout under way to count outcomes for.",
                    next_step=f"See `shipway rollout status {endpoint}`.",
                )
            ids = [one.id for one in outcomes if one.id is not None]
            new = tx.outcomes.unseen(rollout.id, ids)
            return _counted(tx, rollout, outcomes, new)

    def _view(self, state: EndpointState, rollout: Rollout) -> RolloutView:
        return rollout_view(rollout, self._evidence(rollout), preview=self._preview(state, rollout))

    def _preview(self, state: EndpointState, rollout: Rollout) -> str:
        address = next((g.report.address for g in self._seen().gateways if g.report.address), "")
        if not address or not rollout.is_under_way:
            return ""
        number = rollout.candidate.number
        return f"{address}/v2/models/{state.spec.name}/versions/{number}/infer"

    def _evidence(self, rollout: Rollout) -> Evidence | None:
        """What was seen last, when it is of the rollout's present step."""
        one = self._seen().decided.get(rollout.endpoint)
        if one is None or one.evidence is None:
            return None
        step = one.evidence.step
        is_present = (step.rollout, step.epoch) == (rollout.id, rollout.epoch)
        return one.evidence if is_present else None

    def _step_of(self, state: EndpointState) -> TrialReport | None:
        rollout = state.releasing
        evidence = None if rollout is None else self._evidence(rollout)
        return None if evidence is None else evidence.step

    def _existing(self, tx: Transaction, name: str) -> EndpointState:
        environment = self._environment
        state = tx.endpoints.get(environment, name)
        if state is None:
            raise EndpointNotFound.named(
                name,
                siblings(
                    name,
                    (s.spec.name for s in tx.endpoints.list() if s.spec.environment == environment),
                ),
                next_step="`shipway get` lists the endpoints.",
            )
        return state


def _last(state: EndpointState) -> Rollout:
    if state.rollout is None:
        raise RolloutNotFound(
            f"Endpoint `{state.spec.name}` has had no rollout.",
            next_step="Begin one with `shipway deploy MODEL:VERSION --strategy canary`.",
        )
    return state.rollout


def _check(outcomes: Sequence[Outcome]) -> None:
    if len(outcomes) > MOST_OUTCOMES:
        raise InvalidRequest(
            f"{len(outcomes)} outcomes are more than one request takes.",
            next_step=f"Send at most {MOST_OUTCOMES} at once.",
        )
    for number, one in enumerate(outcomes):
        if not isfinite(one.value):
            raise InvalidRequest(f"Outcome {number} has no finite value.", path=f"{number}.value")
        if not 0 < len(one.metric) <= MOST_METRIC_LENGTH or len(one.id or "") > MOST_ID_LENGTH:
            raise InvalidRequest(
                f"Outcome {number} has an empty or too long metric or id.",
                next_step=f"A metric has up to {MOST_METRIC_LENGTH} characters,"
                f" an id up to {MOST_ID_LENGTH}.",
                path=f"{number}",
            )
        if one.metric.startswith(FEEDBACK):
            raise InvalidRequest(
                f"Outcome {number} is of `{one.metric}`, which feedback says and nobody posts.",
                next_step="Send feedback, as `shipway feedback` does, or name the metric otherwise.",
                path=f"{number}.metric",
            )
        if one.version is None and one.key is None:
            raise InvalidRequest(
                f"Outcome {number} says neither which `version` answered nor the caller's `key`.",
                next_step="Every answer names its version; send that number.",
                path=f"{number}.version",
            )


def _counted(
    tx: Transaction, rollout: Rollout, outcomes: Sequence[Outcome], new: set[str]
) -> Counted:
    values: dict[tuple[str, str], list[float]] = {}
    known = unmatched = 0
    for one in outcomes:
        if one.id is not None:
            if one.id not in new:
                known += 1
                continue
            new.discard(one.id)
        version = _version_of(rollout, one)
        if version is None:
            unmatched += 1
        else:
            values.setdefault((one.metric, version), []).append(one.value)
    for (metric, version), some in values.items():
        moments = Moments(n=len(some), total=sum(some), squares=sum(v * v for v in some))
        tx.outcomes.add(rollout.id, metric, version, moments)
    counted = sum(len(some) for some in values.values())
    return Counted(counted=counted, known=known, unmatched=unmatched)


def _version_of(rollout: Rollout, outcome: Outcome) -> str | None:
    """Which of the rollout's versions an outcome is of; None when it is of neither."""
    if outcome.version is not None:
        for version in (rollout.primary, rollout.candidate):
            if outcome.version in (str(version), str(version.number)):
                return str(version)
        return None
    assert outcome.key is not None
    place = place_of(rollout.id, key_text(outcome.key) or "")
    is_new = is_moved(place, rollout.weight_pct)
    return str(rollout.candidate if is_new else rollout.primary)
