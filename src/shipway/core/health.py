"""What a doctor makes of the facts of a server: each one fine, a warning, or a problem with a next step."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.rollouts import Rollout

SKEW_S, LARGE_SKEW_S = 1.0, 30.0
"""Clocks that differ more break ages, expiries and the order of events."""

EXPIRES_SOON_S = 14 * 24 * 3600.0
PREPARING_S = 900.0
"""A candidate that takes longer to start is stuck."""

PAUSED_S = 24 * 3600.0
"""A rollout that waits for a person longer may have been forgotten."""

GRACE_S = 60.0
"""So much later than its limit a rollout may move: control decides every second, and may restart."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """What one check found. `next_step` is empty when there is nothing to do."""

    check: str
    level: Level
    message: str
    next_step: str = ""


class DiskBounds(msgspec.Struct, frozen=True, kw_only=True):
    """A disk is low, or full, when both its share and its bytes are below these; its inodes by the share alone."""

    low_pct: float
    full_pct: float
    low_bytes: int
    full_bytes: int


ROOM = DiskBounds(low_pct=10.0, full_pct=2.0, low_bytes=2 * 1024**3, full_bytes=256 * 1024**2)
"""What a server needs to work now."""


class Holder(StrEnum):
    """Who has a port."""

    NOBODY = "nobody"
    OURS = "ours"
    ANOTHER = "another"


class PortFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A port that the settings name, and the option that chooses it."""

    name: str
    port: int
    flag: str
    holder: Holder


class DiskFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file system, and what of Shipway's is on it. `files` are inodes; 0 where they do not run out."""

    purpose: str
    path: str
    free_bytes: int
    total_bytes: int
    free_files: int = 0
    total_files: int = 0


class ClockFacts(msgspec.Struct, frozen=True, kw_only=True):
    """By how much the named clocks are ahead of this one, and when the newest event was written."""

    ahead_s: dict[str, float] = {}
    newest_event_at: datetime | None = None


class CertificateFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate's file. `fault` says why it cannot be read; `key_matches` is None without a key."""

    path: str
    fault: str = ""
    begins_at: datetime | None = None
    expires_at: datetime | None = None
    key_matches: bool | None = None


class SecretFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A file that only its owner should read."""

    path: str
    mode: int
    is_ours: bool


class RolloutFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A rollout under way. `limit_s` is how long its present step may take by its own plan."""

    endpoint: str
    candidate: str
    phase: str
    step: str
    since: datetime
    limit_s: float


def rollout_facts(rollout: Rollout) -> RolloutFacts:
    """What is looked at of a rollout under way."""
    position = rollout.position
    limit_s = position.hold_s + rollout.plan.patience_s
    return RolloutFacts(
        endpoint=rollout.endpoint,
        candidate=str(rollout.candidate),
        phase=rollout.phase.value,
        step=position.label,
        since=rollout.since,
        limit_s=limit_s if position.test is None else position.test.max_s,
    )


class EndpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of a server that runs: its phase, and whether what should serve can answer."""

    name: str
    phase: str
    message: str = ""
    serves: bool = True


class DatabaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """A database that opens. `faults` are what its own checks found; `schema` None is none of ours."""

    place: str
    schema: str | None
    known_schema: str
    faults: tuple[str, ...] = ()


class ChainFacts(msgspec.Struct, frozen=True, kw_only=True):
    """So many of the newest audit events were checked; `fault` says where they break."""

    checked: int
    fault: str = ""


class BundleFault(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle that is not whole, and the versions that need it."""

    digest: str
    versions: tuple[str, ...]
    reason: str


def port_diagnosis(facts: PortFacts) -> Diagnosis:
    """Whether a server can listen there."""
    check, name = "ports", f"{facts.name} port {facts.port}"
    match facts.holder:
        case Holder.NOBODY:
            return _ok(check, f"{name} is free.")
        case Holder.OURS:
            return _ok(check, f"{name} is this server's.")
        case Holder.ANOTHER:
            return _problem(
                check,
                f"{name} is taken by another program.",
                f"Stop that program, or choose another port with `{facts.flag}`.",
            )


def disk_diagnosis(facts: DiskFacts, *, bounds: DiskBounds = ROOM) -> Diagnosis:
    """Whether there is room to write."""
    share = 100 * facts.free_bytes / max(1, facts.total_bytes)
    files = 100 * facts.free_files / facts.total_files if facts.total_files else 100.0
    said = f"{facts.purpose} has {facts.free_bytes / 1e9:.1f} GB free ({share:.0f} %)"
    step = f"Free space on the disk of `{facts.path}`: old logs, builds and backups are below it."
    if facts.free_bytes < bounds.full_bytes and share < bounds.full_pct:
        return _problem("disk", f"{said}.", step)
    if files < bounds.full_pct:
        return _problem("disk", f"{facts.purpose} has {files:.1f} % of its inodes left.", step)
    if facts.free_bytes < bounds.low_bytes and share < bounds.low_pct:
        return _warning("disk", f"{said}.", step)
    if files < bounds.low_pct:
        return _warning("disk", f"{facts.purpose} has {files:.0f} % of its inodes left.", step)
    return _ok("disk", f"{said}.")


def clock_diagnoses(facts: ClockFacts, *, now: datetime) -> list[Diagnosis]:
    """Whether this machine's time is that of the others, and was not set back."""
    step = "Let a time service (chrony, systemd-timesyncd) keep the clocks of all machines."
    found = []
    for name, ahead_s in sorted(facts.ahead_s.items()):
        if abs(ahead_s) <= SKEW_S:
            continue
        word = "ahead of" if ahead_s > 0 else "behind"
        level = Level.PROBLEM if abs(ahead_s) > LARGE_SKEW_S else Level.WARNING
        message = f"The clock of {name} is {abs(ahead_s):.1f} s {word} this machine's."
        found.append(Diagnosis(check="clock", level=level, message=message, next_step=step))
    newest = facts.newest_event_at
    if newest is not None and (newest - now).total_seconds() > SKEW_S:
        message = f"The newest audit event is of {newest:%Y-%m-%d %H:%M:%S} UTC, which is to come."
        found.append(_problem("clock", f"{message} This clock was set back.", step))
    return found or [_ok("clock", "It agrees with whatever it can be compared with.")]


def certificate_diagnosis(
    facts: CertificateFacts, *, now: datetime, urgent_s: float = 0.0
) -> Diagnosis:
    """Whether a certificate can be shown now, and for how long; `urgent_s` before its end it is a problem."""
    check, name = "certificates", f"`{facts.path}`"
    issue = "Issue it again, then put certificate and key in place together."
    if facts.fault:
        return _problem(check, f"{name} cannot be used: {facts.fault}.", issue)
    if facts.key_matches is False:
        return _problem(check, f"The key beside {name} is not this certificate's.", issue)
    if facts.begins_at is not None and now < facts.begins_at:
        step = "Set this machine's clock, or issue the certificate again."
        return _problem(check, f"{name} is valid only from {facts.begins_at:%Y-%m-%d} on.", step)
    if facts.expires_at is None:
        return _ok(check, f"{name} can be read.")
    left_s = (facts.expires_at - now).total_seconds()
    said = f"{facts.expires_at:%Y-%m-%d %H:%M} UTC"
    if left_s <= 0:
        return _problem(check, f"{name} expired at {said}.", issue)
    if left_s < urgent_s:
        return _problem(check, f"{name} expires at {said}.", issue)
    if left_s < EXPIRES_SOON_S:
        return _warning(check, f"{name} expires at {said}.", issue)
    return _ok(check, f"{name} is valid until {said}.")


def secret_diagnosis(facts: SecretFacts) -> Diagnosis:
    """Whether a secret is its owner's alone."""
    check, name = "keys", f"`{facts.path}`"
    if facts.mode & 0o077:
        return _problem(
            check,
            f"{name} can be read or written by others (mode {facts.mode:o}).",
            f"Close it with `chmod go= {facts.path}`; if others may have read it, make a new one.",
        )
    if not facts.is_ours:
        step = "Run Shipway as that user, or give the file to this one with `chown`."
        return _warning(check, f"{name} belongs to another user.", step)
    return _ok(check, f"{name} is its owner's alone.")


def rollout_diagnosis(facts: RolloutFacts, *, now: datetime) -> Diagnosis:
    """Whether a rollout moves within its own limits."""
    age_s = (now - facts.since).total_seconds()
    name = f"The rollout of {facts.candidate} behind `{facts.endpoint}`"
    status = f"`shipway rollout status {facts.endpoint}`"
    if facts.phase == "paused" and age_s > PAUSED_S:
        return _warning(
            "rollouts",
            f"{name} has waited for a person for {span_of(age_s)}.",
            f"See {status}, then `shipway rollout resume` or `abort`.",
        )
    if facts.phase == "preparing" and age_s > PREPARING_S:
        return _problem(
            "rollouts",
            f"{name} has been starting its candidate for {span_of(age_s)}.",
            f"See {status} and `shipway logs {facts.endpoint}`; `shipway rollout abort` gives it up.",
        )
    if facts.phase == "running" and age_s > facts.limit_s + GRACE_S:
        return _problem(
            "rollouts",
            f"{name} has been at `{facts.step}` for {span_of(age_s)}, longer than its plan's"
            f" {span_of(facts.limit_s)}.",
            f"See {status}: control may be down, or too few requests arrive to decide.",
        )
    return _ok("rollouts", f"{name} is {facts.phase} at `{facts.step}`, within its limits.")


def endpoint_diagnosis(facts: EndpointFacts) -> Diagnosis:
    """Whether an endpoint answers."""
    name, said = f"`{facts.name}`", f": {facts.message.rstrip('.')}." if facts.message else "."
    step = f"See `shipway logs {facts.name}` and `shipway status`; `shipway rollback {facts.name}` helps."
    if not facts.serves:
        return _problem("endpoints", f"{name} cannot answer{said}", step)
    if facts.phase == "failed":
        return _warning("endpoints", f"The last change of {name} failed{said}", step)
    return _ok("endpoints", f"{name} answers.")


def database_diagnosis(facts: DatabaseFacts) -> Diagnosis:
    """Whether the database is sound, and of this release."""
    check, name = "database", f"`{facts.place}`"
    if facts.faults:
        step = "End the server, keep a copy of the file, and restore a backup (`shipway restore`)."
        return _problem(check, f"{name} is damaged: {facts.faults[0]}.", step)
    if facts.schema is None:
        step = "Start the server once: `shipway up` makes the tables."
        return _warning(check, f"{name} has no tables of Shipway.", step)
    if facts.schema > facts.known_schema:
        step = "Use the release that wrote it, or a newer one."
        said = f"{name} has schema {facts.schema}, newer than this release's {facts.known_schema}."
        return _problem(check, said, step)
    if facts.schema < facts.known_schema:
        step = "Start this release's server, which upgrades it; take a backup before."
        said = f"{name} has schema {facts.schema}; this release's is {facts.known_schema}."
        return _warning(check, said, step)
    return _ok(check, f"{name} is sound, schema {facts.schema}.")


def chain_diagnosis(facts: ChainFacts) -> Diagnosis:
    """Whether the audit chain holds."""
    if facts.fault:
        step = (
            "Somebody changed the record. Keep a copy of the database, and compare with a backup."
        )
        return _problem("audit", f"The audit chain is broken: {facts.fault}.", step)
    return _ok("audit", f"The chain of the newest {facts.checked} events holds.")


def bundles_diagnoses(faults: list[BundleFault], *, read: int, looked_at: int) -> list[Diagnosis]:
    """Whether the bundles are whole, of which some were read and all looked at."""
    if not faults:
        return [
            _ok(
                "artifacts",
                f"{looked_at} bundles are there in their sizes; {read} were read and match their"
                " digests.",
            )
        ]
    step = "Register the model again from its source, which heals it, or restore it from a backup."
    return [
        _problem(
            "artifacts",
            f"Bundle {one.digest[:19]}… of {', '.join(one.versions)}: {one.reason}",
            step,
        )
        for one in faults
    ]


def summary_of(diagnoses: list[Diagnosis]) -> Level:
    """The worst level; OK when there are none."""
    order = list(Level)
    return max((one.level for one in diagnoses), key=order.index, default=Level.OK)


def span_of(seconds: float) -> str:
    """A length of time as people say it: `40 s`, `5 min`, `3 h`, `2 d`."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"


def _ok(check: str, message: str) -> Diagnosis:
    return Diagnosis(check=check, level=Level.OK, message=message)


def _warning(check: str, message: str, next_step: str) -> Diagnosis:
    return Diagnosis(check=check, level=Level.WARNING, message=message, next_step=next_step)


def _problem(check: str, message: str, next_step: str) -> Diagnosis:
    return Diagnosis(check=check, level=Level.PROBLEM, message=message, next_step=next_step)
