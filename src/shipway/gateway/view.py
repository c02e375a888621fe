"""The routes as one caller may see them: what everything but predictions reads."""

from __future__ import annotations

from shipway.gateway.routes import LiveRoute, RouteTable
from shipway.wire.callers import Sent
from shipway.wire.credentials import credential_of


class View:
    """A route table behind the doorkeeper, for one request."""

    def __init__(self, table: RouteTable, sent: Sent) -> None:
        self._table = table
        self._sent = sent

    def route(self, name: str) -> LiveRoute:
        """The endpoint of that name.

        Raises:
            Unauthenticated, TooManyAttempts, Forbidden: the caller may not see it.
            EndpointNotFound: there is none, or the caller may not know of it.
        """
        self._table.door.show(self._sent, name)
        return self._table.route(name)

    def routes(self) -> list[LiveRoute]:
        """The endpoints that the caller may see, in name order.

        Raises:
            Unauthenticated, TooManyAttempts: it is not known who calls.
        """
        may_see = self._table.door.seen_by(self._sent)
        return [route for route in self._table.routes() if may_see(route.name)]

    def shown(self) -> list[LiveRoute]:
        """The same, and nothing to a caller who does not say who it is: probes have no key."""
        is_open, sent = self._table.door.is_open, self._sent
        is_known = is_open or credential_of(sent.headers) is not None or bool(sent.peer)
        return self.routes() if is_known else []
