"""Signatures of bundles: an in-toto statement of the bytes, in a DSSE envelope.

The statement names every file with its SHA-256, and the bundle by its digest. Nothing here does
cryptography: `bundles.signing` does.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from datetime import datetime
from typing import Any

import msgspec

from shipway.core.bundles import Manifest
from shipway.core.errors import InvalidRequest

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "urn:shipway:bundle:v1"


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a statement is about: its name, and its hashes by algorithm."""

    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, frozen=True, kw_only=True):
    """An in-toto statement (v1): what is signed, file by file."""

    kind: str = msgspec.field(name="_type")
    subject: tuple[Subject, ...]
    predicate_type: str = msgspec.field(name="predicateType")
    predicate: dict[str, Any] = {}


class EnvelopeSignature(msgspec.Struct, frozen=True, kw_only=True):
    """One signature; `sig` is base64. `keyid` is a hint and trusted for nothing."""

    sig: str
    keyid: str = ""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """A DSSE envelope; `payload` is base64."""

    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: tuple[EnvelopeSignature, ...]


class BundleSignature(msgspec.Struct, frozen=True, kw_only=True):
    """A signature that was handed in for a bundle's bytes, by whom and when.

    `key_id` is `sha256:` and the hash of the public key.
    """

    digest: str
    key_id: str
    envelope: Envelope
    by: str
    at: datetime


def statement_of(manifest: Manifest) -> Statement:
    """What a signature of this bundle says."""
    files = (
        Subject(name=file.path, digest={"sha256": file.sha256}) for file in manifest.content.files
    )
    whole = Subject(name="bundle", digest={"sha256": manifest.digest.removeprefix("sha256:")})
    return Statement(
        kind=STATEMENT_TYPE, subject=(whole, *files), predicate_type=PREDICATE_TYPE, predicate={}
    )


def payload_of(manifest: Manifest) -> bytes:
    """The bytes of that statement, the same for the same bundle."""
    return msgspec.json.encode(statement_of(manifest), order="sorted")


def encoded_for_signing(payload: bytes) -> bytes:
    """What the signature is over: DSSE's pre-authentication encoding (PAE) of type and payload."""
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def sealed(payload: bytes, signature: bytes, key_id: str) -> Envelope:
    """The envelope of a payload and its signature."""
    return Envelope(
        payload=b64encode(payload).decode(),
        payload_type=PAYLOAD_TYPE,
        signatures=(EnvelopeSignature(keyid=key_id, sig=b64encode(signature).decode()),),
    )


def parts_of(envelope: Envelope) -> tuple[bytes, tuple[bytes, ...]]:
    """The payload of an envelope and its signatures, as bytes.

    Raises:
        InvalidRequest: it is of another type, or not base64.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _unreadable(f"its payload is `{envelope.payload_type}`, not `{PAYLOAD_TYPE}`")
    try:
        payload = b64decode(envelope.payload, validate=True)
        return payload, tuple(b64decode(one.sig, validate=True) for one in envelope.signatures)
    except (NotBase64, ValueError) as exc:
        raise _unreadable("it is not base64") from exc


def _unreadable(why: str) -> InvalidRequest:
    return InvalidRequest(
        f"The signature cannot be read: {why}.", next_step="Sign it again with `shipway sign`."
    )
