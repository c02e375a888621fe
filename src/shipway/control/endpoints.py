"""The use cases of endpoints: each change is one transaction, its audit record included."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import msgspec

from shipway.control.admission import let_back
from shipway.control.changes import Request, put, record
from shipway.control.deploying import accept
from shipway.control.views import (
    ChangeView,
    EndpointView,
    GatewayView,
    MemoryView,
    ReplicaView,
    Seen,
    endpoint_view,
    gateway_views,
    replica_views,
)
from shipway.core.access import siblings
from shipway.core.changes import described
from shipway.core.deployments import diverted, rolled_back
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.errors import EndpointNotFound, InvalidSpec
from shipway.core.observed import Desired
from shipway.core.reconcile import is_ready_everywhere, wanted_versions
from shipway.core.rollouts import Decision, Event, moved
from shipway.core.secrets import NONE_ALLOWED, SecretRules
from shipway.core.versions import VersionRef
from shipway.store.sql.database import Database, Transaction
from shipway.wire.specs import spec_of


class Endpoints:
    """Endpoints over a database. Thread-safe; methods block and may raise StoreUnavailable.

    `seen` gives what the reconciler saw last, `poke` wakes it, `read_log` gives a replica's last
    lines. With a `memory_budget_mb`, `auto` places no version inline. `secret_rules` say which
    secrets endpoints may have.
    """

    def __init__(  # noqa: PLR0913 - what it works with, and what it works on
        self,
        database: Database,
        *,
        environment: str,
        seen: Callable[[], Seen],
        poke: Callable[[], None],
        read_log: Callable[[str, int], list[str]],
        memory_budget_mb: float | None = None,
        secret_rules: SecretRules = NONE_ALLOWED,
    ) -> None:
        self.environment = environment
        self._database = database
        self._seen = seen
        self._poke = poke
        self._read_log = read_log
        self._memory_budget_mb = memory_budget_mb
        self._secret_rules = secret_rules

    def list(self) -> tuple[EndpointView, ...]:
        """All endpoints, in name order."""
        with self._database.reading() as tx:
            states = self._states(tx)
        seen = self._seen()
        return tuple(endpoint_view(state, seen) for state in states)

    def following(self, model: str, alias: str) -> tuple[str, ...]:
        """The endpoints that serve whatever the alias means, in name order."""
        with self._database.reading() as tx:
            states = self._states(tx)
        return tuple(s.spec.name for s in states if s.spec.model == f"{model}@{alias}")

    def get(self, name: str) -> EndpointView:
        """One endpoint.

        Raises:
            EndpointNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            state = _existing(tx, self.environment, name)
        return endpoint_view(state, self._seen())

    def gateways(self) -> tuple[GatewayView, ...]:
        """The live gateways."""
        return gateway_views(self._seen())

    def memory(self) -> MemoryView:
        """What the replica processes hold, and what they may."""
        used_mb = sum(replica.memory_mb for replica in self._seen().observed.replicas)
        return MemoryView(used_mb=round(used_mb, 1), budget_mb=self._memory_budget_mb)

    def apply(self, name: str, data: Any, request: Request) -> ChangeView:
        """Makes the endpoint what the spec (parsed YAML or JSON) says.

        Raises:
            InvalidSpec: the spec breaks its schema, or names another endpoint or environment.
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        """
        if isinstance(data, Mapping):
            environment = data.get("environment") or self.environment
            data = {"name": name, **data, "environment": environment}
        spec = spec_of(data)
        if spec.name != name:
            raise InvalidSpec(
                f"The spec is of endpoint `{spec.name}`, not of `{name}`.",
                next_step="Use the same name in both places.",
            )
        with self._changing() as tx:
            return self._accept(tx, spec, request, "endpoint.apply")

    def deploy(self, name: str, fields: Mapping[str, Any], request: Request) -> ChangeView:
        """Puts the version `fields["model"]` behind the endpoint, which is made when it is new.

        Other fields of the spec are kept as they are unless given.

        Raises:
            InvalidSpec: a field breaks the schema, or names another environment.
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        """
        with self._changing() as tx:
            before = tx.endpoints.get(self.environment, name)
            merged = _merged(before, fields)
            environment = merged.get("environment") or self.environment
            data = {"name": name, **merged, "environment": environment}
            spec = spec_of(data, source="The request")
            return self._accept(tx, spec, request, "endpoint.deploy")

    def rollback(self, name: str, request: Request) -> ChangeView:
        """Brings back the version that served before: at once when it is still warm.

        Raises:
            EndpointNotFound: there is none of that name.
            NothingToRollBack: no other version served before.
        """
        with self._changing() as tx:
            before = _existing(tx, self.environment, name)
            after = rolled_back(before, request.now, is_warm=self._is_warm(before, request.now))
            remarks = let_back(tx, before, after, request)
            change = self._put(tx, before, after, request, "endpoint.rollback")
        return msgspec.structs.replace(change, changes=(*change.changes, *remarks))

    def divert(self, name: str, request: Request) -> ChangeView:
        """Lets the endpoint's fallback answer everything, until its spec says otherwise.

        Raises:
            EndpointNotFound: there is none of that name.
            ConflictError: it has no fallback.
        """
        with self._changing() as tx:
            before = _existing(tx, self.environment, name)
            return self._put(tx, before, diverted(before), request, "endpoint.divert")

    def delete(self, name: str, request: Request) -> ChangeView:
        """Forgets the endpoint; its replicas stop once their requests are answered.

        Raises:
            EndpointNotFound: there is none of that name.
        """
        with self._changing() as tx:
            before = _existing(tx, self.environment, name)
            if not request.dry_run:
                tx.endpoints.delete(self.environment, name)
                self._end_rollout(tx, before, request)
                record(tx, before, None, request, "endpoint.delete")
        return ChangeView(endpoint=None, changes=described(before, None), dry_run=request.dry_run)

    def _end_rollout(self, tx: Transaction, state: EndpointState, request: Request) -> None:
        rollout = state.under_way
        if rollout is not None:
            decision = Decision(event=Event.ABORT, message="The endpoint was deleted.")
            tx.rollouts.put(moved(rollout, decision, request.now))

    def replicas_of(self, endpoint: str, version: str) -> tuple[ReplicaView, ...]:
        """The replicas of a version (`churn:2`) behind an endpoint."""
        replicas = self._seen().observed.replicas
        return replica_views(
            r for r in replicas if r.endpoint == endpoint and str(r.version) == version
        )

    def logs(self, name: str, *, tail: int) -> tuple[str, ...]:
        """The last lines of its replicas, each begun with the replica's id, oldest replica first.

        Raises:
            EndpointNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            _existing(tx, self.environment, name)
        replicas = [r for r in self._seen().observed.replicas if r.endpoint == name]
        lines = [
            f"{replica.id} | {line}"
            for replica in sorted(replicas, key=lambda r: r.started_at)
            for line in self._read_log(replica.id, tail)
        ]
        return tuple(lines[-tail:])

    def _states(self, tx: Transaction) -> tuple[EndpointState, ...]:
        return tuple(s for s in tx.endpoints.list() if s.spec.environment == self.environment)

    @contextmanager
    def _changing(self) -> Iterator[Transaction]:
        """A transaction; the reconciler is woken once it is committed, and can see it."""
        with self._database.transaction() as tx:
            yield tx
        self._poke()

    def _accept(
        self, tx: Transaction, spec: EndpointSpec, request: Request, action: str
    ) -> ChangeView:
        self._check_environment(spec)
        self._secret_rules.require_allowed(spec.secrets)
        releases = self._memory_budget_mb is not None
        change = accept(tx, spec, request, releases_memory=releases)
        return self._put(tx, change.before, change.after, request, action)

    def _put(
        self,
        tx: Transaction,
        before: EndpointState | None,
        after: EndpointState,
        request: Request,
        action: str,
    ) -> ChangeView:
        if after != before and not request.dry_run:
            put(tx, before, after, request, action)
        return ChangeView(
            endpoint=endpoint_view(after, self._seen()),
            changes=described(before, after),
            dry_run=request.dry_run,
        )

    def _is_warm(self, state: EndpointState, now: datetime) -> bool:
        seen = self._seen()
        one = seen.desired(state)
        return (
            state.previous is not None
            and state.previous in wanted_versions(state, now)
            and is_ready_everywhere(one, state.previous, seen.observed)
            and not _sleeps_alone(one, state.previous)
        )

    def _check_environment(self, spec: EndpointSpec) -> None:
        if spec.environment != self.environment:
            raise InvalidSpec(
                f"This server serves environment `{self.environment}`, not `{spec.environment}`.",
                next_step="Leave `environment` out, or start a server with that "
                "SHIPWAY_ENVIRONMENT.",
            )


def _sleeps_alone(one: Desired, previous: VersionRef) -> bool:
    """Whether it has no replica while the active version has: callers would wait for its start."""
    active = one.state.active
    return one.count_of(previous) == 0 and (active is None or one.count_of(active) > 0)


def _merged(before: EndpointState | None, fields: Mapping[str, Any]) -> dict[str, Any]:
    """The spec so far with the given fields over it; parts are merged key by key."""
    known: dict[str, Any] = {} if before is None else msgspec.to_builtins(before.spec)
    merged = {**known, **fields}
    for key in ("limits", "scaling", "rollout", "capture"):
        given = fields.get(key)
        if isinstance(given, Mapping):
            merged[key] = {**(known.get(key) or {}), **given}
    return merged


def _existing(tx: Transaction, environment: str, name: str) -> EndpointState:
    state = tx.endpoints.get(environment, name)
    if state is None:
        raise EndpointNotFound.named(
            name,
            siblings(
                name,
                (
                    other.spec.name
                    for other in tx.endpoints.list()
                    if other.spec.environment == environment
                ),
            ),
            next_step="`shipway get` lists the endpoints.",
        )
    return state
