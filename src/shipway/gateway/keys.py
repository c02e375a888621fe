"""The installation's key for hashes of redacted fields: `keys/redaction.key` of the state directory."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from shipway.engines.logs import say

KEY_BYTES = 32


def redaction_key(state_dir: Path) -> bytes:
    """The key, made at its first use, for its owner alone. Gateways that make it at once get the same.

    Where it can neither be read nor made, one of this process alone: values then match nobody else's,
    and nothing is written in clear.
    """
    path = state_dir / "keys" / "redaction.key"
    try:
        with suppress(FileNotFoundError):
            return _read(path)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make(path)
        return _read(path)
    except (OSError, ValueError) as exc:
        say(f"`{path}` cannot be used: {exc}. Hashes of redacted fields match no other gateway's.")
        return secrets.token_bytes(KEY_BYTES)


def _read(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) < KEY_BYTES:
        raise ValueError(f"it has fewer than {KEY_BYTES} bytes")
    return key


def _make(path: Path) -> None:
    """Writes a new key, unless another process was faster: it has its name only once it is whole."""
    # Not the process id: gateways in containers that share the directory may have the same one.
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as stream:
            stream.write(secrets.token_bytes(KEY_BYTES))
            stream.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
