"""Credentials to principals: an API key, a token of the identity provider, or a client's certificate.

Control and gateways tell callers apart by the same rules; they differ in where the keys are looked up.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Mapping
from hmac import compare_digest
from typing import Protocol

import msgspec

from shipway.core.access import Grant, Principal, PrincipalKind, Role
from shipway.core.errors import Unauthenticated
from shipway.core.keys import KeyText, read_key
from shipway.core.rates import CallerLimits
from shipway.wire.tokens import TokenRules, claims_of, looks_like_token

_NO_DIGEST = "0" * 64
GATEWAYS = "shipway://gateway/"
"""How the identities of gateways begin that our own CA makes."""

NEXT_STEP = (
    "Send `Authorization: Bearer KEY` (command line and SDK: set SHIPWAY_API_KEY); `shipway key create`"
    " makes a key."
)


class KeyEntry(msgspec.Struct, frozen=True, kw_only=True):
    """What must be known of an API key to recognise it. `digest` is its SHA-256 in hex.

    `limits` is what it may use; None for what its project and endpoint allow.
    """

    id: str
    name: str
    digest: str
    grants: tuple[Grant, ...]
    expires_at_s: float | None = None
    is_local: bool = False
    limits: CallerLimits | None = None


class Directory(Protocol):
    """Where keys and granted roles are looked up."""

    @property
    def tokens(self) -> TokenRules | None:
        """Which tokens are good; None when none are taken."""
        ...

    def key(self, key_id: str) -> KeyEntry | None:
        """The key of that id, unless it is revoked."""
        ...

    def granted(self, subject: str) -> tuple[Grant, ...]:
        """What a `user:`, `group:` or `cert:` may do."""
        ...


def credential_of(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The credential as it was sent: `Authorization`, else `X-Api-Key`; None when there is neither."""
    return headers.get(b"authorization") or headers.get(b"x-api-key")


def principal_of(credential: bytes, directory: Directory, now_s: float) -> Principal:
    """Who sent the credential, as it came in the header, at `now_s` (seconds since 1970).

    Raises:
        Unauthenticated: it proves nothing.
    """
    text = _text(credential)
    key = read_key(text)
    if key is not None:
        return _by_key(key, directory, now_s)
    if directory.tokens is not None and looks_like_token(text):
        return _by_token(text, directory.tokens, directory, now_s)
    raise Unauthenticated("The credential is neither a key nor a token.", next_step=NEXT_STEP)


def principal_of_certificate(identity: str, directory: Directory) -> Principal:
    """Who showed the certificate, whose chain was verified; it may have no grants.

    One that `shipway ca issue --role gateway` made is a gateway's.
    """
    grants = directory.granted(f"cert:{identity}")
    if identity.startswith(GATEWAYS):
        grants = (*grants, Grant(role=Role.GATEWAY))
    return Principal(name=identity, kind=PrincipalKind.CERTIFICATE, grants=grants)


def nobody() -> Unauthenticated:
    """The error for a request without a credential."""
    return Unauthenticated("The request does not say who calls.", next_step=NEXT_STEP)


def _text(credential: bytes) -> str:
    """The key or token in a header's value: bare, behind `Bearer`, or the password behind `Basic`.

    Basic (RFC 7617) is there for clients that know nothing else, such as Triton's; any name will do.
    """
    text = credential.strip()
    scheme, _, rest = text.partition(b" ")
    match scheme.lower():
        case b"bearer":
            text = rest.strip()
        case b"basic":
            try:
                text = b64decode(rest, validate=True).partition(b":")[2]
            except ValueError:
                text = b""
    return text.decode("latin-1")


def _by_key(key: KeyText, directory: Directory, now_s: float) -> Principal:
    entry = directory.key(key.id)
    # A key that does not exist costs the same comparison as one whose secret is wrong.
    is_right = compare_digest(key.digest, _NO_DIGEST if entry is None else entry.digest)
    if entry is None or not is_right:
        raise Unauthenticated("The key is wrong, or was revoked.", next_step=NEXT_STEP)
    if entry.expires_at_s is not None and entry.expires_at_s <= now_s:
        raise Unauthenticated(
            f"Key `{entry.id}` ({entry.name}) has expired.",
            next_step=f"`shipway key rotate {entry.id}` makes the next one.",
        )
    return Principal(
        name=entry.name,
        kind=PrincipalKind.KEY,
        grants=entry.grants,
        id=entry.id,
        is_local=entry.is_local,
        expires_at_s=entry.expires_at_s,
    )


def _by_token(token: str, rules: TokenRules, directory: Directory, now_s: float) -> Principal:
    claims = claims_of(token, rules, now_s)
    subjects = [f"user:{claims.name}", *(f"group:{group}" for group in claims.groups)]
    grants = tuple(grant for subject in subjects for grant in directory.granted(subject))
    return Principal(
        name=claims.name,
        kind=PrincipalKind.TOKEN,
        grants=grants,
        expires_at_s=claims.expires_at_s,
    )
