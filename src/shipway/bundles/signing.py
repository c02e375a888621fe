"""Signing and verifying bundles with a key of one's own: Ed25519, or ECDSA on P-256 with SHA-256.

An in-toto statement in a DSSE envelope, as `model-signing` writes it with keys; offline, without a service.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from shipway.core.bundles import Manifest
from shipway.core.errors import InvalidSpec
from shipway.core.signatures import (
    BundleSignature,
    Envelope,
    encoded_for_signing,
    parts_of,
    payload_of,
    sealed,
)

PrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey
PublicKey = ed25519.Ed25519PublicKey | ec.EllipticCurvePublicKey
_ECDSA = ec.ECDSA(hashes.SHA256())
_MOST_KEY_BYTES = 64 * 1024


def private_key(path: Path, *, password: bytes | None = None) -> PrivateKey:
    """The private key in a PEM file.

    Raises:
        InvalidSpec: it cannot be read, has another password, or is of another kind.
    """
    try:
        key = serialization.load_pem_private_key(_bytes_in(path), password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as exc:
        raise _no_key(str(path), "private", str(exc)) from exc
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _no_key(str(path), "private", "it is neither Ed25519 nor P-256")


def public_key(pem: str, *, source: str) -> PublicKey:
    """The public key in a PEM text; `source` names it in errors.

    Raises:
        InvalidSpec: it is no public key, or of another kind.
    """
    try:
        key = serialization.load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise _no_key(source, "public", str(exc)) from exc
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise _no_key(source, "public", "it is neither Ed25519 nor P-256")


def public_key_in(path: Path) -> PublicKey:
    """The public key in a PEM file; raises InvalidSpec as `public_key` does."""
    return public_key(_bytes_in(path).decode("utf-8", "replace"), source=str(path))


def pem_of(key: PublicKey) -> str:
    """The key as PEM text."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def key_id_of(key: PublicKey) -> str:
    """`sha256:` and the hash of the key in DER: the name that signatures and policies know it by."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return f"sha256:{sha256(key.public_bytes(serialization.Encoding.DER, form)).hexdigest()}"


def signed(manifest: Manifest, key: PrivateKey) -> Envelope:
    """The envelope in which the key's owner says that these are the bytes."""
    payload = payload_of(manifest)
    data = encoded_for_signing(payload)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(data)
    else:
        signature = key.sign(data, _ECDSA)
    return sealed(payload, signature, key_id_of(key.public_key()))


def is_signed_by(key: PublicKey, envelope: Envelope, manifest: Manifest) -> bool:
    """Whether the envelope says exactly what this manifest says, and the key signed that.

    Raises:
        InvalidRequest: the envelope cannot be read.
    """
    payload, found = parts_of(envelope)
    if payload != payload_of(manifest):
        return False
    return any(_verifies(key, one, encoded_for_signing(payload)) for one in found)


def signer_among(
    signers: Iterable[tuple[str, PublicKey]],
    signatures: Iterable[BundleSignature],
    manifest: Manifest,
) -> tuple[str, ...]:
    """The names of those signers whose signature of this bundle is among the signatures."""
    kept = tuple(signatures)
    return tuple(
        name
        for name, key in signers
        if any(is_signed_by(key, one.envelope, manifest) for one in kept)
    )


def _verifies(key: PublicKey, signature: bytes, data: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            key.verify(signature, data)
        else:
            key.verify(signature, data, _ECDSA)
    except InvalidSignature:
        return False
    return True


def _bytes_in(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_KEY_BYTES)
    except OSError as exc:
        raise InvalidSpec(
            f"The key `{path}` cannot be read: {exc.strerror}.", next_step="Check the path."
        ) from exc


def _no_key(source: str, kind: str, why: str) -> InvalidSpec:
    return InvalidSpec(
        f"`{source}` holds no {kind} key that signs bundles: {why.splitlines()[0] if why else kind}.",
        next_step="Make one with `openssl genpkey -algorithm ed25519 -out key.pem`, and its public key"
        " with `openssl pkey -in key.pem -pubout -out pub.pem`.",
    )
