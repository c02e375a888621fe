"""The Ed25519 keys that sign the audit chain, as files that only their owner reads."""

from __future__ import annotations

from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from shipway.core.errors import InvalidRequest, StateUnusable
from shipway.core.heads import key_name
from shipway.store.files import write_whole

_UNREADABLE = (OSError, ValueError, TypeError, UnsupportedAlgorithm)


class SigningKey:
    """A private key in memory, and its public half as hex."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public_key = private.public_key().public_bytes_raw().hex()

    def sign(self, message: bytes) -> str:
        """The signature over a message, as hex."""
        return self._private.sign(message).hex()

    def private_pem(self) -> bytes:
        """The whole key, for its file."""
        return self._private.private_bytes(
            pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption()
        )

    def public_pem(self) -> bytes:
        """The public half, for everybody."""
        return self._private.public_key().public_bytes(
            pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo
        )


class AuditKeys:
    """A directory with `audit.key`, its `audit.pub`, and `audit-….pub` of every key trusted beside it.

    Those are the keys of before a rotation, and of other control processes on the same database.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = directory / "audit.key"

    def current(self) -> SigningKey:
        """The key that signs; made when there is none.

        Raises:
            StateUnusable: it cannot be read or made.
        """
        try:
            if not self._key.exists():
                self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
                self.adopt(SigningKey(Ed25519PrivateKey.generate()))
            return _read_private(self._key)
        except _UNREADABLE as exc:
            raise StateUnusable(
                f"The audit key `{self._key}` cannot be used: {exc}.",
                next_step="Put back the file of the last backup; without it, remove it, and the next"
                " start makes another.",
            ) from exc

    def trusted(self) -> frozenset[str]:
        """The public keys (hex) whose signatures count.

        Raises:
            StateUnusable: one of the files holds no Ed25519 public key.
        """
        try:
            return frozenset(read_public_key(path) for path in self._directory.glob("audit*.pub"))
        except InvalidRequest as exc:
            next_step = "Put back the file of the last backup, or remove it."
            raise StateUnusable(exc.message, next_step=next_step) from exc

    def stage(self) -> SigningKey:
        """A new key, whose public half is trusted from now on; it signs once it is adopted."""
        key = SigningKey(Ed25519PrivateKey.generate())
        self._trust(key.public_key, key.public_pem())
        return key

    def adopt(self, key: SigningKey) -> None:
        """Makes it the key that signs. The private half of the one before is gone afterwards."""
        public = self._directory / "audit.pub"
        if public.exists():
            self._trust(read_public_key(public), public.read_bytes())
        write_whole(self._key, [key.private_pem()], mode=0o600)
        write_whole(public, [key.public_pem()])

    def _trust(self, public_key: str, content: bytes) -> None:
        write_whole(self._directory / f"audit-{key_name(public_key)}.pub", [content])


def read_public_key(path: Path) -> str:
    """The Ed25519 public key in a PEM file, as hex.

    Raises:
        InvalidRequest: it holds none.
    """
    try:
        key = pem.load_pem_public_key(path.read_bytes())
    except _UNREADABLE as exc:
        raise _no_public_key(path) from exc
    if not isinstance(key, Ed25519PublicKey):
        raise _no_public_key(path)
    return key.public_bytes_raw().hex()


def is_signed(public_key: str, message: bytes, signature: str) -> bool:
    """Whether the signature (hex) is that of the public key (hex) over the message."""
    try:
        key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key))
        key.verify(bytes.fromhex(signature), message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _read_private(path: Path) -> SigningKey:
    key = pem.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("it is not an Ed25519 key")
    return SigningKey(key)


def _no_public_key(path: Path) -> InvalidRequest:
    return InvalidRequest(
        f"`{path}` holds no Ed25519 public key.",
        next_step="Give the `audit.pub` of the server's `keys` directory.",
    )
