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

    def get(self, environment: str, name: str) -> EndpointState | None:
        """One endpoint's state."""
        query = sa.select(endpoints.c.state).where(_is(environment, name))
        text = self._connection.scalar(query)
        return None if text is None else msgspec.json.decode(text, type=EndpointState)

    def list(self) -> list[EndpointState]:
        """The states of all environments, in the order of names."""
        query = sa.select(endpoints.c.state).order_by(endpoints.c.name, endpoints.c.environment)
        texts = self._connection.scalars(query)
        return [msgspec.json.decode(text, type=EndpointState) for text in texts]

    def put(self, state: EndpointState, *, expected_generation: int | None) -> None:
        """Writes a state over the one with the expected generation; None says there is none yet.

        Raises:
            ConflictError: the endpoint has another generation, appeared, or is gone.
        """
        environment, name = state.spec.environment, state.spec.name
        actual = self._generation(environment, name)
        if actual != expected_generation:
            raise ConflictError(
                f"Endpoint `{state.spec.name}` was changed by somebody else meanwhile.",
                next_step="Look at it with `shipway get`, then repeat the change.",
                expected_generation=expected_generation,
                generation=actual,
            )
        row = {
            "generation": state.generation,
            "state": msgspec.json.encode(state).decode(),
        }
        if actual is None:
            insert = sa.insert(endpoints).values(environment=environment, name=name, **row)
            self._connection.execute(insert)
        else:
            mine = _is(environment, name)
            self._connection.execute(sa.update(endpoints).where(mine).values(row))

    def delete(self, environment: str, name: str) -> None:
        """Forgets an endpoint; nothing when there is none."""
        self._connection.execute(sa.delete(endpoints).where(_is(environment, name)))

    def _generation(self, environment: str, name: str) -> int | None:
        query = sa.select(endpoints.c.generation).where(_is(environment, name))
        generation = self._connection.scalar(query)
        return None if generation is None else int(generation)


def _is(environment: str, name: str) -> sa.ColumnElement[bool]:
    return (endpoints.c.environment == environment) & (endpoints.c.name == name)
