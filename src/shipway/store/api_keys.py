"""New keys, and those that live in the state directory: the local admin's and the gateways'."""

from __future__ import annotations

import os
import secrets
import tempfile
from base64 import b32encode
from pathlib import Path

from shipway.core.errors import StateUnusable
from shipway.core.keys import read_key, written

DIRECTORY = "keys"
ADMIN = "admin"
GATEWAY = "gateway"


def new_key_text() -> str:
    """A key that nobody has yet."""
    # 60 random bits in 12 characters of base 32, as the form of a key wants them.
    key_id = b32encode(secrets.token_bytes(8)).decode().lower()[:12]
    return written(key_id, secrets.token_urlsafe(32))


def key_path(state_dir: Path, name: str) -> Path:
    """Where the key of that name is."""
    return state_dir / DIRECTORY / f"{name}.key"


def kept_key(state_dir: Path, name: str, fresh: str) -> str:
    """The key of that name; the `fresh` one when there was none. For its owner's eyes only (0600).

    Processes that ask at once get the same one.

    Raises:
        StateUnusable: the file cannot be read or written, or holds no key.
    """
    path = key_path(state_dir, name)
    try:
        if not path.exists():
            _place(path, fresh)
        text = path.read_text().strip()
    except OSError as exc:
        raise StateUnusable(
            f"The key file `{path}` cannot be used: {exc.strerror or exc}.",
            next_step="Make it readable for the user that runs Shipway.",
        ) from exc
    if read_key(text) is None:
        raise StateUnusable(
            f"The file `{path}` holds no key.",
            next_step="Delete it: the next start makes another one.",
        )
    return text


def _place(path: Path, text: str) -> None:
    """Puts a whole file in place, unless another process was quicker."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent)  # 0600 by itself
    try:
        with os.fdopen(descriptor, "w") as stream:
            stream.write(f"{text}\n")
            stream.flush()
            os.fsync(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        Path(draft).unlink()
