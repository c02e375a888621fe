"""What secrets refer to, read on this machine when a replica starts; nothing is kept."""

from __future__ import annotations

import os
from collections.abc import Mapping

from shipway.core.errors import SecretUnavailable
from shipway.core.secrets import SecretRef, SecretRules, Secrets
from shipway.settings import content_of

_NEXT_STEP = (
    "Give it to the process that starts replicas (`shipway up` or `shipway control`) on this machine,"
    " or correct `secrets` of the endpoint."
)


class SecretSource:
    """The variables of this process and the files of this machine, as far as the rules let them be used."""

    def __init__(self, rules: SecretRules, environment: Mapping[str, str] = os.environ) -> None:
        self._rules = rules
        self._environment = environment

    def variables(self, secrets: Secrets) -> dict[str, str]:
        """The variables with their values, for the environment of one process. Reads files.

        Raises:
            SecretUnavailable: one may not be used, or is not there; the message has the reference.
        """
        return {name: self._value(name, reference) for name, reference in secrets}

    def _value(self, name: str, reference: SecretRef) -> str:
        problem = self._rules.objection(reference)
        if problem:
            raise _unavailable(name, reference, f"may not be used: {problem}")
        if reference.env is not None:
            value = self._environment.get(reference.env, "")
            if not value:
                raise _unavailable(name, reference, "is not set, or empty")
            return value
        return self._content(name, reference)

    def _content(self, name: str, reference: SecretRef) -> str:
        # Mounted secrets are links; one may not lead to what is the server's own.
        path = os.path.realpath(reference.file or "")
        if self._rules.is_own(SecretRef(file=path)):
            raise _unavailable(name, reference, "may not be used: it leads to the server's own")
        try:
            return content_of(path)
        except (OSError, ValueError) as exc:
            why = exc.strerror if isinstance(exc, OSError) else str(exc)
            raise _unavailable(name, reference, f"cannot be read: {why}") from None


def _unavailable(name: str, reference: SecretRef, fact: str) -> SecretUnavailable:
    return SecretUnavailable(
        f"Secret `{name}`: `{reference}` {fact}.", next_step=_NEXT_STEP, reference=str(reference)
    )
