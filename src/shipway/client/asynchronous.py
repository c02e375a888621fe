"""The asynchronous Python client: `Client` with `await`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar, Unpack

import httpx

from shipway.client import (
    alerting,
    auditing,
    calls,
    costing,
    feedback,
    flows,
    granting,
    logged,
    measuring,
    monitoring,
    packing,
    promoting,
    registering,
    releasing,
    trusting,
)
from shipway.client.alerting import AlertRules, AlertStory, Channel, ChannelFields
from shipway.client.answers import (
    Alias,
    Change,
    Counted,
    Diff,
    Endpoint,
    Key,
    Logs,
    Model,
    NewKey,
    Place,
    PolicyChange,
    Prediction,
    Project,
    Rollout,
    Standing,
    Status,
    Version,
    Whoami,
)
from shipway.client.auditing import AuditFilters
from shipway.client.discovery import addresses
from shipway.client.evaluating.question import EvaluateOptions, question_of
from shipway.client.exchange import Answer, Call, Flow, Pause, Run, Step, Work
from shipway.client.faults import error_from, network_reason, unreachable
from shipway.client.feedback import TruthFields
from shipway.client.flows import DEPLOY_TIMEOUT_S, SpecFields, Waiting
from shipway.client.logged import LogFilters
from shipway.client.measuring import Measured, Top
from shipway.client.packing import PackOptions
from shipway.client.releasing import ROLLOUT_TIMEOUT_S, Outcome
from shipway.client.session import BYPASS_PROXIES, Session
from shipway.client.trust import pinned, trusted
from shipway.client.trusting import Trust, Verified
from shipway.client.upload import OnProgress, nobody_watches
from shipway.core.access import Binding, Grant
from shipway.core.alerts.lifecycle import Alert
from shipway.core.alerts.plan import Deed
from shipway.core.alerts.silences import Silence
from shipway.core.audit import AuditEvent
from shipway.core.budgets import BudgetStanding
from shipway.core.candidacy import Opinion
from shipway.core.costs import CostReport
from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import ShipwayError
from shipway.core.evaluations import Evaluation
from shipway.core.evidence import Pair
from shipway.core.heads import KeyChange
from shipway.core.logged import Explanation, LoggedRows, LogStats
from shipway.core.monitor_runs import MonitorRun, MonitorStand
from shipway.core.performance import By, Performance
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy
from shipway.core.profile import Profile
from shipway.core.rates import CallerLimits
from shipway.core.retention import Pruned
from shipway.core.rollouts import Event
from shipway.core.thrift import AdviceReport
from shipway.core.verification import ChainPage, ChainVerdict
from shipway.core.versions import parse_version
from shipway.wire.feedback import Truth

T = TypeVar("T")
CONNECT_TIMEOUT_S = 5.0


class AsyncClient:
    """`Client` for asyncio: the same methods and errors; packaging runs in a thread.

    Use it in one event loop.
    """

    def __init__(
        self,
        server: str | None = None,
        *,
        gateway: str | None = None,
        state_dir: Path | None = None,
        key: str | None = None,
    ) -> None:
        found = addresses(server, state_dir=state_dir, gateway=gateway, key=key)
        self._session = Session(found)
        own = {url: httpx.AsyncHTTPTransport(verify=tls) for url, tls in pinned(found)}
        self._http = httpx.AsyncClient(
            verify=trusted(found), mounts={**dict.fromkeys(BYPASS_PROXIES), **own}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections. Calling it again does nothing."""
        await self._http.aclose()

    @property
    def control_url(self) -> str:
        """Where control is."""
        return self._session.control_url

    async def gateway_url(self) -> str:
        """Where callers reach the endpoints; asks control when nothing else told it."""
        await self._run(self._session.located())
        return self._session.gateway_url or ""

    async def status(self) -> Status:
        """Server, gateways and endpoints with their replicas."""
        return await self._send(calls.status())

    async def models(self) -> tuple[Model, ...]:
        """Every registered model with its versions and aliases, by name."""
        return await self._send(calls.models())

    async def model(self, name: str) -> Model:
        """One registered model."""
        return await self._send(calls.model(name))

    async def show(self, version: str) -> Version:
        """One version (`churn:2`, `churn@champion`, `churn`) with its whole manifest."""
        return await self._send(calls.version(parse_version(version)))

    async def profile(self, version: str) -> Profile | None:
        """The baseline profile of a version's sample; None when it was packaged without one."""
        return await self._run(flows.profile(parse_version(version)))

    async def example(self, version: str) -> bytes | None:
        """An example request of a version (Open Inference JSON); None when it has no sample."""
        return await self._run(flows.example(version))

    async def register(
        self,
        model: Any,
        *,
        name: str,
        on_progress: OnProgress = nobody_watches,
        **options: Unpack[PackOptions],
    ) -> Version:
        """Packages a model here and uploads its bundle; the new version, or the one it equals.

        Args:
            model: a path (artifact or finished bundle), or the trained model itself.
            name: under which to register it.
            on_progress: called with the step, how much is done, and how much there is.
            options: how to package, as in `shipway.client.packing.PackOptions`.

        Raises:
            InvalidArtifact: it is not a model that can be packaged; says which and why.
        """
        pack = packing.packer(model, on_progress=on_progress, options=options)
        return await self._run(
            registering.register(model, name, pack=pack, on_progress=on_progress)
        )

    async def trust(self, version: str) -> Trust:
        """What a version's scan found, what serving it loads, and who signed its bytes."""
        return await self._send(trusting.trust(version))

    async def sign(self, version: str, key: Path) -> Trust:
        """Signs the bytes of a version with the private key (PEM) in a file, which stays here."""
        return await self._run(trusting.signed(version, key))

    async def verify(self, version: str, *, key: Path | None = None) -> Verified:
        """Reads all stored bytes of a version again, and checks that a public key (PEM) signed them.

        Raises:
            BundleCorrupt: a file (named) is missing or was changed.
            NotFound: the key has not signed exactly these bytes.
        """
        return await self._run(trusting.verified(version, key))

    async def delete_version(self, version: str) -> None:
        """Forgets a version. Refused while it serves or carries an alias."""
        await self._run(flows.delete_version(version))

    async def alias(self, version: str, alias: str, *, reason: str = "") -> Alias:
        """Points an alias at a version; the reason goes on the audit record."""
        return await self._run(flows.set_alias(version, alias, reason=reason))

    async def delete_alias(self, model: str, alias: str) -> Alias:
        """Forgets an alias; the answer says where it pointed."""
        return await self._send(calls.delete_alias(model, alias))

    async def diff(self, before: str, after: str) -> Diff:
        """What differs between two versions of a model: `diff("churn:1", "churn:2")`."""
        return await self._send(flows.diff_call(before, after))

    async def where(self, model: str) -> tuple[Place, ...]:
        """Which endpoints run which versions of a model, and where."""
        return await self._send(calls.where(model))

    async def policies(self) -> tuple[DeclaredPolicy, ...]:
        """The policies of all environments that have one, by name."""
        return await self._send(promoting.policies())

    async def policy(self, environment: str) -> DeclaredPolicy:
        """The policy of an environment."""
        return await self._send(promoting.policy(environment))

    async def apply_policy(
        self, policy: EnvironmentPolicy, *, dry_run: bool = False
    ) -> PolicyChange:
        """Makes an environment's policy what it says."""
        return await self._send(promoting.apply(policy, dry_run=dry_run))

    async def delete_policy(self, environment: str, *, dry_run: bool = False) -> PolicyChange:
        """Forgets an environment's policy: every version may enter it."""
        return await self._send(promoting.delete(environment, dry_run=dry_run))

    async def whoami(self) -> Whoami:
        """Who this client is to the server, and what it may do."""
        return await self._send(granting.whoami())

    async def keys(self) -> tuple[Key, ...]:
        """The API keys that the caller administers, without their secrets."""
        return await self._send(granting.keys())

    async def create_key(
        self, name: str, grants: Sequence[Grant], *, expires_in_s: int | None = None
    ) -> NewKey:
        """Makes an API key; its `key` is shown this once."""
        return await self._send(granting.create_key(name, grants, expires_in_s=expires_in_s))

    async def rotate_key(self, key_id: str, *, overlap_s: int = 86_400) -> NewKey:
        """Makes the next key in place of one, which stays good for the overlap."""
        return await self._send(granting.rotate_key(key_id, overlap_s=overlap_s))

    async def revoke_key(self, key_id: str, *, reason: str = "") -> Key:
        """Ends a key now."""
        return await self._send(granting.revoke_key(key_id, reason=reason))

    async def limit_key(self, key_id: str, limits: CallerLimits) -> Key:
        """Makes what a key may use this; `CallerLimits()` takes its limits away."""
        return await self._send(granting.limit_key(key_id, limits))

    async def projects(self) -> tuple[Project, ...]:
        """The projects that have limits, of those the caller administers."""
        return await self._send(granting.projects())

    async def limit_project(self, name: str, limits: CallerLimits) -> Project:
        """Makes what all callers of a project's endpoints may use together this."""
        return await self._send(granting.limit_project(name, limits))

    async def bindings(self) -> tuple[Binding, ...]:
        """What is granted to people, groups and certificates."""
        return await self._send(granting.bindings())

    async def bind(
        self, subject: str, grants: Sequence[Grant], *, before: Sequence[Grant] | None = None
    ) -> Binding:
        """Makes the grants of `user:NAME`, `group:NAME` or `cert:IDENTITY` these.

        With `before`, only where it has exactly these now; else it raises ConflictError.
        """
        return await self._send(granting.bind(subject, grants, before=before))

    async def promotions(self, version: str) -> tuple[Standing, ...]:
        """Where a version stands in each environment: what is met, what is missing, who said what."""
        return await self._send(promoting.standings(version))

    async def promote(
        self, version: str, environment: str, *, reason: str = "", dry_run: bool = False
    ) -> Standing:
        """Lets exactly these bytes into an environment, and points the alias of its name at them.

        Raises:
            PolicyUnmet: the environment's policy is not met; `details["unmet"]` lists each rule.
        """
        return await self._send(
            promoting.promote(version, environment, reason=reason, dry_run=dry_run)
        )

    async def approve(self, version: str, environment: str, *, reason: str = "") -> Standing:
        """Says that a version, given by number, may enter an environment; binds to its bytes."""
        return await self._send(
            promoting.review(version, environment, Opinion.APPROVED, reason=reason)
        )

    async def reject(self, version: str, environment: str, *, reason: str = "") -> Standing:
        """Says that a version must not enter an environment; only your approval takes it back."""
        return await self._send(
            promoting.review(version, environment, Opinion.REJECTED, reason=reason)
        )

    async def endpoints(self) -> tuple[Endpoint, ...]:
        """Every endpoint."""
        return await self._send(calls.endpoints())

    async def endpoint(self, name: str) -> Endpoint:
        """One endpoint."""
        return await self._send(calls.endpoint(name))

    async def deploy(  # noqa: PLR0913 - what may be said of a deployment
        self,
        model: str,
        *,
        endpoint: str | None = None,
        dry_run: bool = False,
        supersede: bool = False,
        reason: str = "",
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
        **fields: Unpack[SpecFields],
    ) -> Change:
        """Puts a version behind an endpoint (by default of the model's name), and waits until live.

        Creates the endpoint when there is none. The version before keeps serving until the new one
        is ready, and stays warm for a rollback. With a plan (`rollout`, here or in the endpoint's spec)
        it waits until the rollout has begun; `wait_rollout` waits for its end. `reason` is kept on the audit record.

        Raises:
            DeployFailed: the version could not be started.
            NotPromoted: the version was given up at once, or another took its place.
            RolloutUnderWay: another rollout is under way, and it was not to `supersede` it.
            DeadlineExceeded: it was not live within `timeout_s`.
        """
        call = calls.deploy(
            model,
            endpoint=endpoint,
            dry_run=dry_run,
            supersede=supersede,
            reason=reason,
            **fields,
        )
        waiting = Waiting(wait=wait, timeout_s=timeout_s)
        return await self._run(flows.changed(self._session, call, waiting))

    async def apply(
        self,
        spec: EndpointSpec,
        *,
        dry_run: bool = False,
        supersede: bool = False,
        reason: str = "",
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
    ) -> Change:
        """Makes an endpoint what its spec says, and waits until live. Raises like `deploy`."""
        call = calls.apply(spec, dry_run=dry_run, supersede=supersede, reason=reason)
        waiting = Waiting(wait=wait, timeout_s=timeout_s)
        return await self._run(flows.changed(self._session, call, waiting))

    async def rollback(
        self,
        endpoint: str,
        *,
        dry_run: bool = False,
        reason: str = "",
        wait: bool = True,
        timeout_s: float = DEPLOY_TIMEOUT_S,
    ) -> Change:
        """Brings back the version that served before, and waits until live. Raises like `deploy`."""
        call = calls.rollback(endpoint, dry_run=dry_run, reason=reason)
        waiting = Waiting(wait=wait, timeout_s=timeout_s)
        return await self._run(flows.changed(self._session, call, waiting))

    async def delete(self, endpoint: str, *, dry_run: bool = False, reason: str = "") -> Change:
        """Stops and forgets an endpoint; its models stay registered."""
        return await self._send(calls.delete(endpoint, dry_run=dry_run, reason=reason))

    async def wait(
        self, endpoint: str, *, version: str | None = None, timeout_s: float = DEPLOY_TIMEOUT_S
    ) -> Endpoint:
        """The endpoint, once its change is live or its rollout has begun. Raises like `deploy`.

        With `version`, another one in its place is an error too.
        """
        return await self._run(
            flows.live(self._session, endpoint, timeout_s=timeout_s, version=version)
        )

    async def rollout(self, endpoint: str, id: str | None = None) -> Rollout:  # noqa: A002
        """The rollout under way or the last one, or the one of that id."""
        return await self._run(releasing.found(endpoint, id))

    async def rollouts(self, endpoint: str, *, limit: int = 20) -> tuple[Rollout, ...]:
        """The endpoint's rollouts, newest first."""
        return await self._send(calls.rollouts(endpoint, limit=limit))

    async def pause_rollout(
        self, endpoint: str, *, reason: str = "", dry_run: bool = False
    ) -> Rollout:
        """Keeps the rollout at its step until it is resumed; guards still watch.

        Raises:
            RolloutNotPossible: none is under way, or it is not in a phase for that.
        """
        return await self._send(
            calls.act_on_rollout(endpoint, Event.PAUSE, reason=reason, dry_run=dry_run)
        )

    async def resume_rollout(
        self, endpoint: str, *, reason: str = "", dry_run: bool = False
    ) -> Rollout:
        """Lets a paused rollout go on. Raises like `pause_rollout`."""
        return await self._send(
            calls.act_on_rollout(endpoint, Event.RESUME, reason=reason, dry_run=dry_run)
        )

    async def promote_rollout(
        self, endpoint: str, *, reason: str = "", dry_run: bool = False
    ) -> Rollout:
        """Gives the candidate all traffic now, whatever the guards say. Raises like `pause_rollout`."""
        return await self._send(
            calls.act_on_rollout(endpoint, Event.PROMOTE, reason=reason, dry_run=dry_run)
        )

    async def abort_rollout(
        self, endpoint: str, *, reason: str = "", dry_run: bool = False
    ) -> Rollout:
        """Gives the primary all traffic again. Raises like `pause_rollout`."""
        return await self._send(
            calls.act_on_rollout(endpoint, Event.ABORT, reason=reason, dry_run=dry_run)
        )

    async def wait_rollout(self, endpoint: str, *, timeout_s: float = ROLLOUT_TIMEOUT_S) -> Rollout:
        """The rollout under way, once it is promoted. Control may be away meanwhile.

        Raises:
            NotPromoted: it was rolled back, aborted or superseded; `details` name the phase and guard.
            DeadlineExceeded: it had not ended within `timeout_s`; it goes on.
            RolloutNotFound: the endpoint has had none.
        """
        return await self._run(releasing.ended(self._session, endpoint, timeout_s=timeout_s))

    async def rollout_pairs(self, endpoint: str) -> tuple[Pair, ...]:
        """The mirrored requests on which the two versions differed most, worst first."""
        return await self._send(calls.rollout_pairs(endpoint))

    async def post_outcomes(
        self, endpoint: str, outcomes: Iterable[Outcome | Mapping[str, Any]]
    ) -> Counted:
        """Counts what happened after predictions, for metrics of guards and A/B tests.

        Each is a dict or `shipway.client.releasing.Outcome`: `metric`, `value`, and the `version` that
        answered or the caller's `key`; an `id` makes one that is posted twice count once. There may be
        any number of them.

        Raises:
            InvalidRequest: one cannot be read; those before it may be counted.
            RolloutNotFound: no rollout is under way.
        """
        return await self._run(releasing.posted(endpoint, outcomes))

    async def measure(
        self,
        endpoint: str,
        name: str,
        *,
        version: str = "",
        since: datetime | None = None,
        until: datetime | None = None,
        step_s: float | None = None,
    ) -> Measured:
        """A measure of an endpoint over a period, such as `p99_ms`; docs/reference/metrics.md has them all.

        The period is the last hour when left out; times without a zone are UTC. With `step_s` the answer
        has its course too. `version` (`churn:2`) leaves other versions out.

        Raises:
            InvalidRequest: there is no such measure, or there would be too many points.
            EndpointNotFound: there is no such endpoint.
        """
        return await self._send(
            measuring.measure(
                endpoint, name, version=version, since=since, until=until, step_s=step_s
            )
        )

    async def top(self) -> Top:
        """What the endpoints do now that the caller may see, busiest first."""
        return await self._send(measuring.top())

    async def logs(self, endpoint: str, *, tail: int = 200) -> Logs:
        """The last lines of an endpoint's replicas."""
        return await self._send(calls.logs(endpoint, tail=tail))

    async def predict(
        self,
        endpoint: str,
        data: Any,
        *,
        outputs: Sequence[str] | None = None,
        request_id: str = "",
        timeout_s: float = 30.0,
    ) -> Prediction:
        """What the endpoint's model says of a DataFrame, an array, a dict of columns, or records.

        Raises:
            InvalidInput: a value breaks the signature; `details` name column, row, rule and value.
        """
        return await self._run(
            flows.predict(
                self._session,
                endpoint,
                data,
                outputs=outputs,
                request_id=request_id,
                timeout_s=timeout_s,
            )
        )

    async def predictions(self, endpoint: str, **filters: Unpack[LogFilters]) -> LoggedRows:
        """Rows of an endpoint's prediction log, newest first; at most 10,000.

        Args:
            endpoint: its name; a deleted one's log is there until it is let go.
            filters: as in `shipway.client.logged.LogFilters`.

        Raises:
            InvalidRequest: the condition or a column cannot be used.
            DeadlineExceeded: the query takes too long.
        """
        return await self._send(logged.rows(endpoint, filters))

    async def export_predictions(
        self,
        endpoint: str,
        *,
        format: Literal["csv", "parquet"] = "parquet",  # noqa: A002
        **filters: Unpack[LogFilters],
    ) -> bytes:
        """The same as a file, at most a million rows. Raises like `predictions`."""
        return await self._send(logged.export(endpoint, filters, form=format))

    async def prediction_stats(self, endpoint: str | None = None) -> tuple[LogStats, ...]:
        """How much of the prediction log is stored: of one endpoint, or of all that the caller may see."""
        return await self._run(logged.stats_of(endpoint))

    async def explain(self, request_id: str, *, endpoint: str | None = None) -> Explanation:
        """One request: what was asked, which versions answered what, and the feedback that came.

        Raises:
            NotFound: the log has no such request.
        """
        return await self._run(logged.explained(request_id, endpoint))

    async def feedback(self, endpoint: str, **truth: Unpack[TruthFields]) -> int:
        """Says what became of one prediction, by `request_id` or business `key`; how many were kept.

        Raises:
            InvalidRequest: it is not sound in itself.
            ConflictError: the endpoint keeps no predictions.
        """
        return await self.post_feedback(endpoint, [truth])

    async def post_feedback(self, endpoint: str, items: Iterable[Truth | Mapping[str, Any]]) -> int:
        """Says what became of predictions: dicts with the fields of `feedback`, any number of them.

        Sending them again changes nothing where they have an `id`, or nobody has corrected them since.

        Raises:
            InvalidRequest: one is not sound in itself; those before it may be kept.
        """
        return await self._run(feedback.posted(self._session, endpoint, items))

    async def performance(
        self,
        endpoint: str,
        *,
        version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        by: By | str | None = None,
    ) -> Performance:
        """How good the endpoint's predictions were, as far as feedback says.

        By version and role; `by` also by `segment`, `hour` or `day`. `until` is not included.
        """
        wanted = None if by is None else By(by)
        return await self._send(
            feedback.performance(endpoint, version=version, since=since, until=until, by=wanted)
        )

    async def evaluate(
        self,
        version: str,
        data: Any,
        *,
        label: str,
        on_progress: OnProgress = nobody_watches,
        **options: Unpack[EvaluateOptions],
    ) -> Evaluation:
        """How well a version does on held-out data; the result is kept with the version.

        The version answers behind a temporary endpoint of its own, which is deleted afterwards.

        Args:
            version: such as `churn:2`.
            data: a path (Parquet, CSV, JSON, `.npz`), a frame, a dict of columns, or records.
            label: the column of the truth.
            on_progress: called with the step, how much is done, and how much there is.
            options: as in `shipway.client.evaluating.question.EvaluateOptions`.

        Raises:
            InvalidRequest: the data lacks a column or a label, or holds classes that are unknown.
            MissingDependency: scikit-learn is not installed.
            PolicyUnmet: the environment does not let the version run.
        """
        # pyarrow is not loaded before somebody has data.
        from shipway.client.evaluating.flow import evaluated
        from shipway.client.evaluating.stands import Stands

        question, stands = question_of(version, label, options), Stands(self._session)
        try:
            return await self._run(
                evaluated(self._session, stands, question, data, on_progress=on_progress)
            )
        finally:
            await self._run(stands.taken_down())

    async def monitors(self, endpoint: str) -> tuple[MonitorStand, ...]:
        """The endpoint's monitors: when each runs next, and what it said last."""
        return await self._send(monitoring.stands(endpoint))

    async def run_monitor(
        self,
        endpoint: str,
        monitor: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        timeout_s: float = monitoring.RUN_TIMEOUT_S,
    ) -> MonitorRun:
        """Judges the window up to now, or other times, and gives the run once it has ended.

        Args:
            endpoint: the endpoint's name.
            monitor: the monitor's name.
            since: from then on; as long before `until` as the monitor's window when left out.
            until: before then; now when left out. With either, no alert is raised or resolved.
            timeout_s: how long to wait for the run.

        Raises:
            NotFound: the endpoint has no such monitor.
            InvalidRequest: nothing can have been kept of these times.
            ConflictError: ten other runs of the monitor wait already.
            DeadlineExceeded: `timeout_s` passed first; the run goes on.
        """
        run = monitoring.ran(endpoint, monitor, since=since, until=until, timeout_s=timeout_s)
        return await self._run(run)

    async def monitor_runs(
        self, endpoint: str, monitor: str, *, limit: int = 50
    ) -> tuple[MonitorRun, ...]:
        """The runs of a monitor without their reports, the one that was due last first."""
        return await self._send(monitoring.runs(endpoint, monitor, limit=limit))

    async def monitor_run(self, endpoint: str, run: str) -> MonitorRun:
        """One run, with its report.

        Raises:
            NotFound: the endpoint has had no such run, or not lately.
        """
        return await self._send(monitoring.run(endpoint, run))

    async def monitor_report(
        self, endpoint: str, run: str, form: monitoring.Form = "html"
    ) -> bytes:
        """What was made of a run's report: a page (`html`), or its first findings (`svg`, `png`).

        Raises:
            NotFound: nothing was made, as nothing was found; a run that you start has it always.
        """
        return await self._send(monitoring.report(endpoint, run, form))

    async def evaluations(self, version: str) -> tuple[Evaluation, ...]:
        """The evaluations of a version, newest first."""
        return await self._send(calls.evaluations(parse_version(version)))

    async def audit(self, **filters: Unpack[AuditFilters]) -> tuple[AuditEvent, ...]:
        """What was changed or refused, by whom, when and from where; newest first.

        Args:
            filters: as in `shipway.client.auditing.AuditFilters`.
        """
        return await self._send(auditing.events(filters))

    async def audit_event(self, sequence: int) -> AuditEvent:
        """One audit event."""
        return await self._send(auditing.event(sequence))

    async def audit_check(self, *, archives: bool = False) -> ChainVerdict:
        """Whether the audit chain and its signed heads hold; `archives`, also what was archived."""
        return await self._send(auditing.check(archives=archives))

    async def audit_page(
        self, *, after: int | None = None, heads_after: int = 0, limit: int = 1000
    ) -> ChainPage:
        """The audit chain after that event and that signed head, oldest first.

        A page of fewer events than `limit` is the last one.
        """
        return await self._send(auditing.page(after=after, heads_after=heads_after, limit=limit))

    async def prune_audit(self, *, before: datetime | None = None, dry_run: bool = False) -> Pruned:
        """Archives the oldest audit events: what policies let go, or older than `before` within them.

        Raises:
            ConflictError: the chain does not hold.
        """
        return await self._send(auditing.prune(before=before, dry_run=dry_run))

    async def rotate_audit_key(self) -> KeyChange:
        """Replaces the key that signs the audit chain; the old public key stays valid."""
        return await self._send(auditing.rotate_key())

    async def costs(
        self,
        *,
        by: Sequence[str] = ("endpoint",),
        since: datetime | None = None,
        until: datetime | None = None,
        endpoint: str = "",
    ) -> CostReport:
        """What serving cost, summed by some of `endpoint`, `version`, `tenant`, `use_case`, `hour` and `day`.

        Of the last 30 days when left out. Who may not see the whole server names an endpoint.
        """
        return await self._send(costing.report(by, since=since, until=until, endpoint=endpoint))

    async def budgets(self) -> tuple[BudgetStanding, ...]:
        """Where the budgets of endpoints stand."""
        return await self._send(costing.budgets())

    async def cost_advice(self, *, since: datetime | None = None) -> AdviceReport:
        """How endpoints could cost less, by what was seen in the last two days or since then."""
        return await self._send(costing.advice(since=since))

    async def alerts(
        self, *, endpoint: str | None = None, is_open: bool = True, limit: int = 100
    ) -> tuple[Alert, ...]:
        """The newest alerts first; with `is_open`, those that have not ended."""
        return await self._send(alerting.alerts(endpoint=endpoint, is_open=is_open, limit=limit))

    async def alert(self, alert_id: str) -> AlertStory:
        """All that is known of an alert: what happened, who was told, what can be done."""
        return await self._send(alerting.alert(alert_id))

    async def acknowledge_alert(self, alert_id: str, *, reason: str = "") -> Alert:
        """Takes an alert on: it escalates no further.

        Raises:
            ConflictError: it does not fire.
        """
        return (await self._send(alerting.say(alert_id, "acknowledge", reason=reason))).alert

    async def resolve_alert(self, alert_id: str, *, reason: str = "") -> Alert:
        """Ends an alert; it comes back with the next evidence.

        Raises:
            ConflictError: it has ended.
        """
        return (await self._send(alerting.say(alert_id, "resolve", reason=reason))).alert

    async def act_on_alert(
        self,
        alert_id: str,
        deed: Deed | str | None = None,
        *,
        reason: str = "",
        dry_run: bool = False,
    ) -> str:
        """Does something about an alert: the deed, else the first that was declared for it; what was done.

        Raises:
            ConflictError: nothing was declared, or it cannot be done.
        """
        return (await self._send(alerting.act(alert_id, deed, reason=reason, dry_run=dry_run))).done

    async def alert_rules(self, endpoint: str) -> AlertRules:
        """The alert rules of an endpoint, who is told, and what is done."""
        return await self._send(alerting.rules(endpoint))

    async def silences(self) -> tuple[Silence, ...]:
        """The silences that have not ended."""
        return await self._send(alerting.silences())

    async def silence(
        self, endpoint: str, *, for_s: float, reason: str, rule: str = "*", subject: str = "*"
    ) -> Silence:
        """Lets nobody be told of certain alerts of an endpoint for so long; they fire and resolve as ever.

        Raises:
            InvalidRequest: there is no reason, or it would last longer than 30 days.
        """
        return await self._send(
            alerting.silence(endpoint, rule=rule, subject=subject, for_s=for_s, reason=reason)
        )

    async def end_silence(self, silence_id: str) -> Silence:
        """Ends a silence now."""
        return await self._send(alerting.unsilence(silence_id))

    async def channels(self) -> tuple[Channel, ...]:
        """The channels that you administer, with what became of their messages."""
        return await self._send(alerting.channels())

    async def add_channel(self, name: str, **fields: Unpack[ChannelFields]) -> Channel:
        """Makes a channel that is told of alerts, in place of one of its name; its secret is shown this once.

        Args:
            name: what endpoints call it under `alerts.notify`.
            fields: as in `shipway.client.alerting.ChannelFields`.

        Raises:
            InvalidSpec: a URL, template or reference is not one.
        """
        return await self._send(alerting.add_channel(name, fields))

    async def test_channel(self, name: str) -> Channel:
        """Sends a channel a message that says that nothing is wrong.

        Raises:
            InvalidRequest, ServerUnreachable, SecretUnavailable: it did not arrive, and why.
        """
        return await self._send(alerting.test_channel(name))

    async def remove_channel(self, name: str) -> Channel:
        """Forgets a channel."""
        return await self._send(alerting.remove_channel(name))

    async def _send(self, call: Call[T]) -> T:
        url = self._session.base_url(call.plane)
        body = _streamed(call.body) if callable(call.body) else call.body
        try:
            response = await self._http.request(
                call.method,
                url + call.path,
                params=dict(call.query) or None,
                headers=self._session.headers(call),
                content=body,
                timeout=httpx.Timeout(call.timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        except httpx.TransportError as exc:
            raise unreachable(url, network_reason(exc)) from exc
        answer = Answer(
            status=response.status_code, headers=response.headers, body=response.content
        )
        if not response.is_success:
            raise error_from(answer, call.plane)
        return call.read(answer)

    async def _run(self, flow: Flow[T]) -> T:
        with closing(Run(flow)) as run:
            while (step := run.step) is not None:
                try:
                    value = await self._take(step)
                except ShipwayError as error:
                    run.fail(error)
                else:
                    run.tell(value)
            return run.result

    async def _take(self, step: Step) -> Any:
        if isinstance(step, Pause):
            return await asyncio.sleep(step.seconds)
        if isinstance(step, Work):
            return await asyncio.to_thread(step.run)
        return await self._send(step)


async def _streamed(start: Callable[[], Iterator[bytes]]) -> AsyncIterator[bytes]:
    """The chunks of a blocking stream, each read in a thread."""
    chunks = start()
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        yield chunk
