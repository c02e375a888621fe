"""Every error that Shipway raises on purpose, as one tree branched by whose fault it is.

ShipwayError
├── CallerError                 the request is at fault; repeating it unchanged fails again
│   ├── InvalidRequest          cannot be read as what it claims to be (syntax, shape, unknown name)
│   ├── InvalidInput            readable, but a value breaks the signature (dtype, null, range, category)
│   ├── InvalidSpec             a declared spec or config does not follow its schema
│   ├── InvalidArtifact         a file is not a model that can be packaged
│   │   ├── NotAModel
│   │   ├── ArtifactTruncated
│   │   ├── MissingDependency
│   │   ├── MissingClass
│   │   └── DangerousArtifact
│   ├── NotFound
│   │   ├── ModelNotFound, VersionNotFound, AliasNotFound, EndpointNotFound
│   │   ├── RolloutNotFound, EnvironmentNotFound, KeyNotFound
│   ├── Unauthenticated         it does not say who calls, or cannot prove it
│   ├── Forbidden               who calls lacks a right; `details` name it
│   ├── TooManyAttempts         so many wrong credentials came from there; carries `retry_after_s`
│   ├── UnsupportedMediaType
│   ├── BodyTooLarge
│   ├── HeadTooLarge
│   │   └── TargetTooLong
│   ├── QueueFull               back off and repeat; carries `retry_after_s`
│   ├── RateLimited             a limit is used up; carries `limit`, `whose` and `retry_after_s`
│   └── DeadlineExceeded
├── ConflictError               the request is sound, the present state forbids it
│   ├── NothingToRollBack, VersionInUse, AlreadyRunning, PortTaken, TargetTaken
│   ├── RolloutUnderWay, RolloutNotPossible, PolicyUnmet
├── DependencyError             something we depend on is missing, broken or away
│   ├── NoReadyReplica, ReplicaLost, StoreUnavailable, ServerUnreachable
│   ├── BundleCorrupt, BackupCorrupt, EnvironmentFailed, IsolationFailed, StateUnusable, SchemaTooNew
│   ├── PredictionUnrecorded    its endpoint answers nothing that it cannot record
│   ├── SecretUnavailable       a reference names nothing that can be read here
│   ├── CertificateUnusable
│   └── DeployFailed            the version could not be started
│       └── NotPromoted         its rollout ended without it
└── Bug                         ours, or the model's code
    └── ModelFailed

Each class has a stable `code`; `wire.problems` maps it to HTTP, `cli.messages` to words and exit codes.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, ClassVar

_MOST_COMPARED = 200
"""Names that a wrong one is compared with: each takes 20 µs, and callers may be wrong as often as they like."""


class ShipwayError(Exception):
    """The root. `message` states the fact, `next_step` what to do, `details` machine-readable facts."""

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, next_step: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step
        self.details = details

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild, (type(self), self.message, self.next_step, self.details))

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".rstrip()


def _rebuild(
    kind: type[ShipwayError], message: str, next_step: str, details: dict[str, Any]
) -> ShipwayError:
    return kind(message, next_step=next_step, **details)


class CallerError(ShipwayError):
    """The request is at fault; repeating it unchanged fails again."""

    code = "caller_error"


class InvalidRequest(CallerError):
    """The request cannot be read as what it claims to be; `details` name the position or path."""

    code = "invalid_request"


class InvalidInput(CallerError):
    """A value breaks the signature; `details` hold `column`, `row`, `rule` and `value`."""

    code = "invalid_input"


class InvalidSpec(CallerError):
    """A declared spec, config or signature override does not follow its schema."""

    code = "invalid_spec"


class InvalidArtifact(CallerError):
    """A file cannot be packaged as a model."""

    code = "invalid_artifact"


class NotAModel(InvalidArtifact):
    """The content is of no format that Shipway knows."""

    code = "not_a_model"


class ArtifactTruncated(InvalidArtifact):
    """The content begins like a model and ends too early, or is damaged."""

    code = "artifact_truncated"


class MissingDependency(InvalidArtifact):
    """Loading the model needs a package that is not installed; `details` name it."""

    code = "missing_dependency"


class MissingClass(InvalidArtifact):
    """A pickle refers to a class or function that cannot be imported; `details` name it."""

    code = "missing_class"


class DangerousArtifact(InvalidArtifact):
    """A bundle was refused by its scan; `details` hold the `file`, `offset`, `name` and all `findings`."""

    code = "dangerous_artifact"


class NotFound(CallerError):
    """A named thing does not exist; the message holds the nearest existing name."""

    code = "not_found"
    kind: ClassVar[str] = "thing"

    @classmethod
    def named(cls, name: str, existing: Iterable[str], *, next_step: str = "") -> NotFound:
        """The error for a missing `name`, suggesting the nearest of the `existing` ones."""
        known = sorted(existing)
        near = get_close_matches(name, known[:_MOST_COMPARED], n=1, cutoff=0.4)
        hint = f" Did you mean `{near[0]}`?" if near else ""
        message = f"There is no {cls.kind} `{name}`.{hint}"
        return cls(message, next_step=next_step, name=name, nearest=near[0] if near else None)


class ModelNotFound(NotFound):
    """No model of that name is registered."""

    code = "model_not_found"
    kind = "model"


class VersionNotFound(NotFound):
    """The model exists, the version does not."""

    code = "version_not_found"
    kind = "model version"


class AliasNotFound(NotFound):
    """The model exists, the alias does not."""

    code = "alias_not_found"
    kind = "alias"


class EndpointNotFound(NotFound):
    """No endpoint of that name exists."""

    code = "endpoint_not_found"
    kind = "endpoint"


class RolloutNotFound(NotFound):
    """The endpoint has no rollout, or none of that id."""

    code = "rollout_not_found"
    kind = "rollout"


class EnvironmentNotFound(NotFound):
    """No environment of that name has a policy."""

    code = "environment_not_found"
    kind = "environment"


class KeyNotFound(NotFound):
    """No API key has that id."""

    code = "key_not_found"
    kind = "key"


class Unauthenticated(CallerError):
    """The request does not say who calls, or cannot prove it."""

    code = "unauthenticated"


class Forbidden(CallerError):
    """Who calls lacks a right; `details` hold `right` and what it is wanted for."""

    code = "forbidden"


class TooManyAttempts(CallerError):
    """So many wrong credentials came from one address that it must wait `retry_after_s`."""

    code = "too_many_attempts"


class UnsupportedMediaType(CallerError):
    """The body's content type is not one that the route reads."""

    code = "unsupported_media_type"


class BodyTooLarge(CallerError):
    """The body is over the limit; `details` hold `limit_bytes`."""

    code = "body_too_large"


class HeadTooLarge(CallerError):
    """The headers of a request are over the server's bounds."""

    code = "head_too_large"


class TargetTooLong(HeadTooLarge):
    """The path and query of a request are over the server's bounds."""

    code = "target_too_long"


class QueueFull(CallerError):
    """A bounded queue is full; repeat after `details['retry_after_s']`."""

    code = "queue_full"


class RateLimited(CallerError):
    """A key, a project or an endpoint has used what it may.

    `details` hold `limit`, `whose`, `name` and `retry_after_s`.
    """

    code = "rate_limited"


class DeadlineExceeded(CallerError):
    """The request's deadline passed before its answer was ready."""

    code = "deadline_exceeded"


class ConflictError(ShipwayError):
    """The request is sound, the present state forbids it."""

    code = "conflict"


class NothingToRollBack(ConflictError):
    """The endpoint has no earlier version to return to."""

    code = "nothing_to_roll_back"


class VersionInUse(ConflictError):
    """The version serves behind an endpoint or carries an alias."""

    code = "version_in_use"


class RolloutUnderWay(ConflictError):
    """The endpoint is in the middle of a rollout; `details` hold its id."""

    code = "rollout_under_way"


class RolloutNotPossible(ConflictError):
    """The rollout is not in a phase in which that can be done."""

    code = "rollout_not_possible"


class PolicyUnmet(ConflictError):
    """The environment's policy forbids it; `details["unmet"]` lists each rule that is not met."""

    code = "policy_unmet"


class AlreadyRunning(ConflictError):
    """Another server runs on the same state directory."""

    code = "already_running"


class PortTaken(ConflictError):
    """Another process listens on the wanted port."""

    code = "port_taken"


class TargetTaken(ConflictError):
    """What should be written to holds something already: a file, a database, a state directory."""

    code = "target_taken"


class DependencyError(ShipwayError):
    """Something we depend on is missing, broken or away; a later attempt may succeed."""

    code = "dependency_error"


class NoReadyReplica(DependencyError):
    """The endpoint exists, and none of its replicas can answer now."""

    code = "no_ready_replica"


class ReplicaLost(DependencyError):
    """The replica went away with the request inside."""

    code = "replica_lost"


class PredictionUnrecorded(DependencyError):
    """The answer was made, and not given: its endpoint answers nothing that it cannot record."""

    code = "prediction_unrecorded"


class StoreUnavailable(DependencyError):
    """The database, the artifact store or the store of metrics cannot be reached or written."""

    code = "store_unavailable"


class ServerUnreachable(DependencyError):
    """No Shipway server answers at the address."""

    code = "server_unreachable"


class BundleCorrupt(DependencyError):
    """A bundle's bytes do not match its digest; `details` name the file."""

    code = "bundle_corrupt"


class BackupCorrupt(DependencyError):
    """A backup was cut off or changed, or what was restored is not what it says."""

    code = "backup_corrupt"


class EnvironmentFailed(DependencyError):
    """A model's locked environment could not be built."""

    code = "environment_failed"


class SecretUnavailable(DependencyError):
    """What a secret's reference names cannot be read on this machine; the reference is in the message."""

    code = "secret_unavailable"


class IsolationFailed(DependencyError):
    """A replica cannot be isolated as its endpoint requires."""

    code = "isolation_failed"


class StateUnusable(DependencyError):
    """The state directory is missing, unwritable or full."""

    code = "state_unusable"


class SchemaTooNew(DependencyError):
    """The database was written by a newer Shipway."""

    code = "schema_too_new"


class CertificateUnusable(DependencyError):
    """A certificate, key or CA of TLS cannot be used; the message names the file."""

    code = "certificate_unusable"


class DeployFailed(DependencyError):
    """An endpoint could not start its new version; the one before (if any) still serves."""

    code = "deploy_failed"


class NotPromoted(DeployFailed):
    """A rollout ended without its candidate; `details` hold its `phase`, and the `guard` that failed."""

    code = "not_promoted"


class Bug(ShipwayError):
    """Ours, or the model's code."""

    code = "bug"


class ModelFailed(Bug):
    """The model's code raised; the traceback is in the replica's log under `details['incident']`."""

    code = "model_failed"


def _tree(kind: type[ShipwayError]) -> Iterable[type[ShipwayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def error_of(code: str) -> type[ShipwayError]:
    """The class with that stable `code`; `Bug` for one that this release does not know."""
    return next((kind for kind in _tree(ShipwayError) if kind.code == code), Bug)
