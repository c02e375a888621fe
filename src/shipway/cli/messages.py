"""The one table from errors to words and exit codes."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from shipway.core import errors
from shipway.core.text import indented


class Exit(IntEnum):
    """What a process's exit code says. 2 is also Typer's own, for a command line it cannot read."""

    OK = 0
    OTHER = 1
    USAGE = 2
    NOT_FOUND = 3
    INVALID = 4
    CONFLICT = 5
    UNAVAILABLE = 6
    NOT_DONE = 7
    DENIED = 8
    BUG = 70
    INTERRUPTED = 130


class Words(NamedTuple):
    """How a kind of error is introduced, and the process's exit code."""

    heading: str
    exit_code: Exit


MESSAGES: dict[type[errors.ShipwayError], Words] = {
    errors.ShipwayError: Words("Error", Exit.OTHER),
    errors.CallerError: Words("Refused", Exit.INVALID),
    errors.InvalidRequest: Words("Not readable", Exit.INVALID),
    errors.InvalidInput: Words("Invalid input", Exit.INVALID),
    errors.InvalidSpec: Words("Invalid spec", Exit.INVALID),
    errors.InvalidArtifact: Words("Cannot be packaged", Exit.INVALID),
    errors.NotAModel: Words("Not a model", Exit.INVALID),
    errors.ArtifactTruncated: Words("Damaged file", Exit.INVALID),
    errors.MissingDependency: Words("Package missing", Exit.INVALID),
    errors.MissingClass: Words("Class missing", Exit.INVALID),
    errors.DangerousArtifact: Words("Dangerous", Exit.INVALID),
    errors.NotFound: Words("Not found", Exit.NOT_FOUND),
    errors.ModelNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.VersionNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.AliasNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.EndpointNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.RolloutNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.EnvironmentNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.KeyNotFound: Words("Not found", Exit.NOT_FOUND),
    errors.Unauthenticated: Words("Not signed in", Exit.DENIED),
    errors.Forbidden: Words("Not allowed", Exit.DENIED),
    errors.TooManyAttempts: Words("Wait", Exit.DENIED),
    errors.UnsupportedMediaType: Words("Wrong content type", Exit.INVALID),
    errors.BodyTooLarge: Words("Too large", Exit.INVALID),
    errors.HeadTooLarge: Words("Too large", Exit.INVALID),
    errors.TargetTooLong: Words("Too large", Exit.INVALID),
    errors.QueueFull: Words("Busy", Exit.UNAVAILABLE),
    errors.RateLimited: Words("Limit reached", Exit.UNAVAILABLE),
    errors.DeadlineExceeded: Words("Out of time", Exit.NOT_DONE),
    errors.ConflictError: Words("Not now", Exit.CONFLICT),
    errors.NothingToRollBack: Words("Nothing to roll back", Exit.CONFLICT),
    errors.RolloutUnderWay: Words("A rollout is under way", Exit.CONFLICT),
    errors.RolloutNotPossible: Words("Not now", Exit.CONFLICT),
    errors.PolicyUnmet: Words("Refused by policy", Exit.CONFLICT),
    errors.VersionInUse: Words("In use", Exit.CONFLICT),
    errors.AlreadyRunning: Words("Already running", Exit.CONFLICT),
    errors.PortTaken: Words("Port taken", Exit.CONFLICT),
    errors.TargetTaken: Words("Already there", Exit.CONFLICT),
    errors.DependencyError: Words("Unavailable", Exit.UNAVAILABLE),
    errors.NoReadyReplica: Words("Not ready", Exit.UNAVAILABLE),
    errors.ReplicaLost: Words("Replica lost", Exit.UNAVAILABLE),
    errors.PredictionUnrecorded: Words("Not recorded", Exit.UNAVAILABLE),
    errors.StoreUnavailable: Words("Store unavailable", Exit.UNAVAILABLE),
    errors.ServerUnreachable: Words("No server", Exit.UNAVAILABLE),
    errors.BundleCorrupt: Words("Bundle damaged", Exit.UNAVAILABLE),
    errors.BackupCorrupt: Words("Backup damaged", Exit.UNAVAILABLE),
    errors.EnvironmentFailed: Words("Environment failed", Exit.UNAVAILABLE),
    errors.SecretUnavailable: Words("Secret unavailable", Exit.UNAVAILABLE),
    errors.IsolationFailed: Words("Isolation failed", Exit.UNAVAILABLE),
    errors.StateUnusable: Words("State directory unusable", Exit.UNAVAILABLE),
    errors.SchemaTooNew: Words("Newer state", Exit.UNAVAILABLE),
    errors.CertificateUnusable: Words("Certificate unusable", Exit.UNAVAILABLE),
    errors.DeployFailed: Words("Deploy failed", Exit.NOT_DONE),
    errors.NotPromoted: Words("Not promoted", Exit.NOT_DONE),
    errors.Bug: Words("A bug in Shipway", Exit.BUG),
    errors.ModelFailed: Words("The model's code failed", Exit.BUG),
}
"""Every class of the tree; a class that a later release adds has its parent's."""


def words_of(error: errors.ShipwayError) -> Words:
    """The words and exit code of an error."""
    return next(MESSAGES[kind] for kind in type(error).__mro__ if kind in MESSAGES)


def message_of(error: errors.ShipwayError) -> str:
    """What a person reads: what happened, and on its own line what to do next."""
    lines = [f"{words_of(error).heading}: {indented(error.message)}"]
    if error.next_step:
        lines.append(f"  Next: {indented(error.next_step)}")
    return "\n".join(lines)
