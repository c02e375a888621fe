"""Who may ask what of this gateway: the first step of the request's way.

A credential is examined once; after that a request pays two look-ups. What was learnt is forgotten with
each new access list. Nothing here asks control: a gateway lets in, and keeps out, without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from time import monotonic, time  # noqa: TID251 - the default of an injected clock

import msgspec

from shipway.core.access import (
    ANYBODY,
    SERVER,
    Grant,
    Kind,
    Principal,
    Resource,
    Right,
    lacking,
    permits,
    sees,
)
from shipway.core.attempts import Attempts
from shipway.core.errors import (
    EndpointNotFound,
    ShipwayError,
    Unauthenticated,
)
from shipway.gateway.ledger import Bounds
from shipway.wire.callers import Sent
from shipway.wire.credentials import (
    KeyEntry,
    credential_of,
    nobody,
    principal_of,
    principal_of_certificate,
)
from shipway.wire.snapshot import AccessList, DenialReport, GatewayReport
from shipway.wire.tokens import TokenRules

MAX_KNOWN = 8192
"""So many credentials are remembered, and so many endpoints of each."""

MAX_DENIALS = 256
"""So many kinds of denial are kept apart between two reports; more are counted as one."""


class Caller:
    """Somebody whose credential was examined.

    `admitted` are endpoints it may ask for predictions, `bounds` what its key may use. `name` is empty
    where access control is off.
    """

    __slots__ = ("admitted", "bounds", "good_until_s", "name", "principal")

    def __init__(self, principal: Principal, bounds: Bounds = ()) -> None:
        self.principal = principal
        self.name = "" if principal is ANYBODY else principal.name
        self.bounds = bounds
        self.admitted: set[str] = set()
        until_s = principal.expires_at_s
        self.good_until_s = float("inf") if until_s is None else until_s


ANYBODYS = Caller(ANYBODY)


class Doorkeeper:
    """Lets callers in by the access list of the last snapshot; nobody before the first one."""

    def __init__(self, *, may_open: bool = True, wall_s: Callable[[], float] = time) -> None:
        """`wall_s` is the time of day, in seconds since 1970.

        Without `may_open` nobody is let in where access control is off: other machines reach the ports.
        """
        self._may_open = may_open
        self._wall_s = wall_s
        self._is_on = True
        self._environment = ""
        self._list = AccessList()
        self._keys: dict[str, KeyEntry] = {}
        self._bounds: Mapping[str, Bounds] = {}
        self._granted: dict[str, tuple[Grant, ...]] = {}
        self._known: dict[bytes, Caller] = {}
        self._certified: dict[str, Caller] = {}
        self._attempts = Attempts()
        self._denials: dict[DenialReport, int] = {}
        self._used: set[str] = set()
        # A request is looked at with its head and again when it is whole, and counts as denied once.
        self._turned_away: tuple[Sent, ShipwayError] | None = None

    @property
    def is_open(self) -> bool:
        """Whether everybody is let in: access control is off."""
        return not self._is_on

    @property
    def tokens(self) -> TokenRules | None:
        """See `wire.credentials.Directory`."""
        return self._list.tokens

    def key(self, key_id: str) -> KeyEntry | None:
        """See `wire.credentials.Directory`."""
        return self._keys.get(key_id)

    def granted(self, subject: str) -> tuple[Grant, ...]:
        """See `wire.credentials.Directory`."""
        return self._granted.get(subject, ())

    def apply(self, access: AccessList, bounds: Mapping[str, Bounds]) -> None:
        """Makes an access list current, at once; `bounds` are those of keys, by their ids."""
        if access == self._list:
            return
        self._bounds = bounds
        self._list = access
        self._is_on = access.is_on or not self._may_open
        self._environment = access.environment
        self._keys = {entry.id: entry for entry in access.keys}
        self._granted = {binding.subject: binding.grants for binding in access.bindings}
        self._known, self._certified = {}, {}

    def admit(self, sent: Sent, endpoint: str) -> Caller:
        """Who asks the endpoint for a prediction, when it may.

        Raises:
            Unauthenticated, TooManyAttempts: it is not known who asks.
            Forbidden: who asks may not.
            EndpointNotFound: nor may it know whether there is such an endpoint.
        """
        if not self._is_on:
            return ANYBODYS
        if self._turned_away is not None and self._turned_away[0] is sent:
            raise self._turned_away[1]
        try:
            caller = self._caller(sent)
            if endpoint not in caller.admitted:
                self._require(caller.principal, sent, Right.INVOKE, endpoint)
                if len(caller.admitted) >= MAX_KNOWN:
                    caller.admitted.clear()
                caller.admitted.add(endpoint)
        except ShipwayError as exc:
            self._turned_away = sent, exc
            raise
        return caller

    def show(self, sent: Sent, endpoint: str) -> None:
        """Lets pass who may see the endpoint: by `read`, or because it may ask it.

        Raises: as `admit`.
        """
        if self._is_on:
            principal = self._caller(sent).principal
            if not self._may_see(principal, endpoint):
                self._require(principal, sent, Right.READ, endpoint)

    def seen_by(self, sent: Sent) -> Callable[[str], bool]:
        """Which endpoints a caller may see, by name.

        Raises:
            Unauthenticated, TooManyAttempts: it is not known who asks.
        """
        if not self._is_on:
            return lambda name: True
        principal = self._caller(sent).principal
        return lambda name: self._may_see(principal, name)

    def show_server(self, sent: Sent) -> None:
        """Lets pass who may see the whole server, such as its metrics.

        Raises:
            Unauthenticated, TooManyAttempts: it is not known who asks.
            Forbidden: it may not see all of it.
        """
        if self._is_on:
            principal = self._caller(sent).principal
            if not permits(principal, Right.READ, SERVER):
                self._note_denial(principal.name, sent.source, Right.READ, "")
                raise lacking(principal, Right.READ, SERVER)

    def admits(self, sent: Sent, endpoint: str) -> bool:
        """Whether `admit` lets it pass: who is turned away anyway need not send a long body first."""
        try:
            self.admit(sent, endpoint)
        except ShipwayError:
            return False
        return True

    def denials(self) -> tuple[DenialReport, ...]:
        """Who was turned away since the last call, by what was asked; for the audit record."""
        noted, self._denials = self._denials, {}
        return tuple(
            msgspec.structs.replace(denial, count=count) for denial, count in noted.items()
        )

    def keep(self, report: GatewayReport) -> None:
        """Takes back what a report that did not arrive says: it comes with the next one."""
        for denial in report.denials:
            self._count_denial(msgspec.structs.replace(denial, count=1), denial.count)
        self._used.update(report.used_keys)

    def used(self) -> tuple[str, ...]:
        """The ids of the keys that were used since the last call."""
        used, self._used = self._used, set()
        return tuple(sorted(used))

    def _caller(self, sent: Sent) -> Caller:
        credential = credential_of(sent.headers)
        if credential is None:
            return self._certified_caller(sent)
        caller = self._known.get(credential)
        if caller is None or caller.good_until_s <= self._wall_s():
            caller = self._examined(credential, sent)
        if caller.principal.id:
            self._used.add(caller.principal.id)
        return caller

    def _examined(self, credential: bytes, sent: Sent) -> Caller:
        now_s = monotonic()
        self._attempts.require_patience(sent.source, credential, now_s)
        try:
            principal = principal_of(credential, self, self._wall_s())
        except Unauthenticated:
            self._attempts.note_failure(sent.source, now_s)
            self._note_denial("", sent.source, None, "")
            raise
        self._attempts.note_success(credential)
        if len(self._known) >= MAX_KNOWN:
            self._known = {}
        caller = Caller(principal, self._bounds.get(principal.id, ()))
        self._known[credential] = caller
        return caller

    def _certified_caller(self, sent: Sent) -> Caller:
        if not sent.peer:
            self._note_denial("", sent.source, None, "")
            raise nobody()
        caller = self._certified.get(sent.peer)
        if caller is None:
            if len(self._certified) >= MAX_KNOWN:
                self._certified = {}
            caller = Caller(principal_of_certificate(sent.peer, self))
            self._certified[sent.peer] = caller
        return caller

    def _may_see(self, principal: Principal, endpoint: str) -> bool:
        resource = self._resource(endpoint)
        return permits(principal, Right.READ, resource) or permits(
            principal, Right.INVOKE, resource
        )

    def _resource(self, endpoint: str) -> Resource:
        return Resource(Kind.ENDPOINT, endpoint, self._environment)

    def _require(self, principal: Principal, sent: Sent, right: Right, endpoint: str) -> None:
        resource = self._resource(endpoint)
        if permits(principal, right, resource):
            return
        self._note_denial(principal.name, sent.source, right, endpoint)
        if not sees(principal, resource):
            raise EndpointNotFound.named(endpoint, ())
        raise lacking(principal, right, resource)

    def _note_denial(self, who: str, source: str, right: Right | None, endpoint: str) -> None:
        denial = DenialReport(
            who=who,
            source=source,
            right="" if right is None else right.value,
            endpoint=endpoint[:63],
        )
        self._count_denial(denial, 1)

    def _count_denial(self, denial: DenialReport, count: int) -> None:
        if denial not in self._denials and len(self._denials) >= MAX_DENIALS:
            denial = DenialReport(who="", source="", right="", endpoint="")
        self._denials[denial] = self._denials.get(denial, 0) + count
