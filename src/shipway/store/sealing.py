"""Secrets that the database keeps for control: sealed by a key of the state directory."""

from __future__ import annotations

import hmac
from hashlib import sha256
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken

from shipway.core.errors import SecretUnavailable, StateUnusable
from shipway.store.files import write_whole

_NAME = "sealing.key"


class Sealer:
    """Seals texts and opens them; who has the database alone reads none. The key is made when there is none."""

    def __init__(self, directory: Path) -> None:
        """`directory` holds the keys of the server.

        Raises:
            StateUnusable: the key cannot be read or made.
        """
        path = directory / _NAME
        try:
            if not path.exists():
                write_whole(path, [Fernet.generate_key()], mode=0o600)
            self._key = path.read_bytes()
            self._fernet = Fernet(self._key)
        except (OSError, ValueError) as exc:
            raise StateUnusable(
                f"The key `{path}` cannot be used: {exc}.",
                next_step="Put back the file of the last backup; without it, remove it and add the"
                " channels of alerts again.",
            ) from exc

    def seal(self, text: str) -> str:
        """The text as only this key opens it."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The text that was sealed.

        Raises:
            SecretUnavailable: it was sealed by another key.
        """
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as exc:
            raise SecretUnavailable(
                "It was sealed by another key than this state directory's.",
                next_step="Put back `keys/sealing.key` of the last backup, or add the channel again.",
            ) from exc

    def derived(self, name: str) -> str:
        """A secret of that name, the same one whenever it is asked for, kept nowhere."""
        return "whsec_" + hmac.new(self._key, name.encode(), sha256).hexdigest()
