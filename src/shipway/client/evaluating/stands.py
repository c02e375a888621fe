"""Temporary endpoints: a version is judged behind one of its own, never behind one that callers use.

Requests to an endpoint in use would wait in its callers' queue, and count as their traffic in metrics
and in the evidence of a rollout.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from shipway.backends.identity import ProcessIdentity
from shipway.client import calls, flows
from shipway.client.answers import Version
from shipway.client.evaluating.question import PREFIX
from shipway.client.exchange import Flow, one
from shipway.client.flows import DEPLOY_TIMEOUT_S, SpecFields, Waiting
from shipway.client.session import Session
from shipway.core.endpoints import Limits
from shipway.core.errors import DeployFailed, EndpointNotFound, PolicyUnmet, ShipwayError

_DEADLINE_MS = 300_000
_MOST_BODY_BYTES = 256 * 1024 * 1024
_MOST_QUEUE = 256
_PLACE_LENGTH = 8
_REASON = "a version is evaluated"
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


class Stands:
    """The temporary endpoints of one evaluation.

    Their names say which process made them, so that those of a process that was killed are known.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._names: list[str] = []

    def put_up(self, version: Version, *, callers: int = 0) -> Flow[str]:
        """The name of a new endpoint that serves this version, once it is ready.

        Raises:
            PolicyUnmet: the environment does not let it run.
            DeployFailed: it could not be started.
        """
        name = f"{PREFIX}{_place()}-{_process()}-{uuid4().hex[:6]}"
        limits = Limits(
            deadline_ms=_DEADLINE_MS,
            max_body_bytes=_MOST_BODY_BYTES,
            max_queue=max(_MOST_QUEUE, callers),
        )
        fields: SpecFields = {"limits": limits, "warm_s": 0.0}
        self._names.append(name)
        waiting = Waiting(timeout_s=DEPLOY_TIMEOUT_S)
        try:
            call = calls.deploy(
                str(version),
                endpoint=name,
                dry_run=False,
                supersede=False,
                reason=_REASON,
                **fields,
            )
            yield from flows.changed(self._session, call, waiting)
        except PolicyUnmet as refusal:
            raise PolicyUnmet(
                f"This environment does not let `{version}` run, not even to be evaluated."
                f" {refusal.message}",
                next_step="Evaluate it on a server of another environment, such as `dev`. What is"
                " found is kept with the bundle, and counts in every environment of its registry.",
                **refusal.details,
            ) from refusal
        except DeployFailed as failure:
            raise DeployFailed(
                f"`{version}` could not be started to be evaluated: {failure.message}",
                next_step=f"See why: `shipway deploy {version} --endpoint try`, then"
                " `shipway logs try`.",
                **failure.details,
            ) from failure
        return name

    def taken_down(self) -> Flow[None]:
        """Removes the endpoints that are still up. Calling it again does nothing.

        What cannot be removed now is found by the next evaluation from this machine.
        """
        while self._names:
            yield from _removed(self._names[-1])
            self._session.forget(self._names.pop())


def leftovers_removed() -> Flow[None]:
    """Removes the endpoints of evaluations on this machine whose process is gone."""
    for endpoint in (yield from one(calls.endpoints())):
        if endpoint.name.startswith(PREFIX) and _is_left_over(endpoint.name):
            yield from _removed(endpoint.name)


def _removed(name: str) -> Flow[None]:
    try:
        yield from one(calls.delete(name, dry_run=False, reason=_REASON))
    except EndpointNotFound:
        return
    except ShipwayError:
        # The evaluation's own outcome matters more, and the next one finds the endpoint.
        return


def _is_left_over(name: str) -> bool:
    parts = name.removeprefix(PREFIX).split("-")
    if len(parts) != 4 or parts[0] != _place() or not parts[1].isdigit() or parts[2] == "0":
        return False
    return not ProcessIdentity(int(parts[1]), parts[2]).is_alive()


def _process() -> str:
    """This process's number and start time; a start of 0 where the system does not tell it."""
    identity = ProcessIdentity.of(os.getpid())
    return f"{os.getpid()}-{'0' if identity is None else identity.start}"


def _place() -> str:
    """Where process numbers mean the same: the machine since its last start, and the container."""
    facts = (socket.gethostname(), _fact(Path.read_text, _BOOT), _fact(os.readlink, _NAMESPACE))
    return sha256("\n".join(facts).encode()).hexdigest()[:_PLACE_LENGTH]


def _fact(read: Callable[[Path], str], path: Path) -> str:
    try:
        return read(path)
    except OSError:
        return ""
