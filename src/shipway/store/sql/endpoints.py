"""Endpoints as rows."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from shipway.core.endpoints import EndpointState
from shipway.core.errors import ConflictError
from shipway.store.sql.tables import endpoints


class EndpointRows:
    """The endpoints of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, name: str) -> EndpointState | None:
        """One endpoint's state."""
        query = sa.select(endpoints.c.state).where(endpoints.c.name == name)
        text = self._connection.scalar(query)
        return None if text is None else msgspec.json.decode(text, type=EndpointState)

    def list(self) -> list[EndpointState]:
        """All states, in name order."""
        query = sa.select(endpoints.c.state).order_by(endpoints.c.name)
        texts = self._connection.scalars(query)
        return [msgspec.json.decode(text, type=EndpointState) for text in texts]

    def put(self, state: EndpointState, *, expected_generation: int | None) -> None:
        """Writes a state over the one with the expected generation; None says there is none yet.

        Raises:
            ConflictError: the endpoint has another generation, appeared, or is gone.
        """
        actual = self._generation(state.spec.name)
        if actual != expected_generation:
            raise ConflictError(
                f"Endpoint `{state.spec.name}` was changed by somebody else meanwhile.",
                next_step="Look at it with `shipway get`, then repeat the change.",
                expected_generation=expected_generation,
                generation=actual,
            )
        row = {
            "environment": state.spec.environment,
            "generation": state.generation,
            "state": msgspec.json.encode(state).decode(),
        }
        if actual is None:
            insert = sa.insert(endpoints).values(name=state.spec.name, **row)
            self._connection.execute(insert)
        else:
            mine = endpoints.c.name == state.spec.name
            self._connection.execute(sa.update(endpoints).where(mine).values(row))

    def delete(self, name: str) -> None:
        """Forgets an endpoint; nothing when there is none."""
        self._connection.execute(sa.delete(endpoints).where(endpoints.c.name == name))

    def _generation(self, name: str) -> int | None:
        query = sa.select(endpoints.c.generation).where(endpoints.c.name == name)
        generation = self._connection.scalar(query)
        return None if generation is None else int(generation)
