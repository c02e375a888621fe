"""JSON Web Tokens of an OpenID Connect provider: who they say calls, once that is proven.

RFC 7519 and RFC 8725 (best current practices): the algorithms are an allow-list of signatures by key pairs,
so neither `none` nor a token signed with the public key as an HMAC secret passes; issuer, audience and
expiry are required. joserfc does the cryptography, and is imported with the first token.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from shipway.core.errors import Unauthenticated

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "Ed25519")
_KINDS = ("RSA", "EC", "OKP")
"""Kinds of key pairs; `oct`, a shared secret, is none."""

MAX_TOKEN_BYTES = 16 * 1024
LEEWAY_S = 30
"""By how much the provider's clock may differ from ours."""


class TokenRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which tokens are good. `keys` is the provider's JSON Web Key Set; empty until it was fetched.

    `name_claim` holds the name of who calls, `groups_claim` a list of groups.
    """

    issuer: str
    audience: str
    name_claim: str = "sub"
    groups_claim: str = "groups"
    keys: bytes = b""


class Claims(msgspec.Struct, frozen=True, kw_only=True):
    """What a good token says. `expires_at_s` is in seconds since 1970."""

    name: str
    groups: tuple[str, ...]
    expires_at_s: float


def looks_like_token(text: str) -> bool:
    """Whether the text has the three parts of a signed token."""
    return text.count(".") == 2


def claims_of(token: str, rules: TokenRules, now_s: float) -> Claims:
    """What a token says, once its signature and its claims hold at `now_s` (seconds since 1970).

    Raises:
        Unauthenticated: they do not; the message says which, and nothing of the token.
    """
    from joserfc import jwt
    from joserfc.errors import JoseError

    if len(token) > MAX_TOKEN_BYTES:
        raise _refused("it is too long")
    try:
        decoded = jwt.decode(token, _key_for(token, rules), algorithms=list(ALGORITHMS))
        jwt.JWTClaimsRegistry(
            now=int(now_s),
            leeway=LEEWAY_S,
            iss={"essential": True, "value": rules.issuer},
            aud={"essential": True, "value": rules.audience},
            exp={"essential": True},
        ).validate(decoded.claims)
    except JoseError as exc:
        raise _refused(exc.error.replace("_", " ")) from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as exc:
        # What joserfc and the libraries below it raise at headers and claims of the wrong form.
        raise _refused("it is malformed") from exc
    return _claims(decoded.claims, rules)


def _key_for(token: str, rules: TokenRules) -> Any:
    """The one key of the set that the token's header names, or the only one when it names none.

    Only that one is looked into: keys of kinds that nobody here knows are passed over (RFC 7517, 5).
    """
    from joserfc.jwk import import_key
    from joserfc.jws import extract_compact

    if not rules.keys:
        raise _refused("the provider's keys are not known yet")
    headers = extract_compact(token.encode()).headers()
    signing = [
        key
        for key in msgspec.json.decode(rules.keys)["keys"]
        if key.get("kty") in _KINDS and key.get("use", "sig") == "sig"
    ]
    key_id = headers.get("kid")
    fitting = [key for key in signing if key_id is None or key.get("kid") == key_id]
    if len(fitting) != 1:
        raise _refused("its key is not one of the provider's")
    return import_key(fitting[0])


def _claims(claims: Mapping[str, Any], rules: TokenRules) -> Claims:
    name, groups = claims.get(rules.name_claim), claims.get(rules.groups_claim, [])
    if not isinstance(name, str) or not name or not name.isprintable() or len(name) > 200:
        raise _refused(f"its claim `{rules.name_claim}` names nobody")
    if isinstance(groups, str):
        groups = [groups]
    known = groups if isinstance(groups, list) else []
    return Claims(
        name=name,
        groups=tuple(group for group in known if isinstance(group, str)),
        expires_at_s=float(claims["exp"]),
    )


def _refused(why: str) -> Unauthenticated:
    return Unauthenticated(
        f"The token does not prove who calls: {why}.",
        next_step="Get a new token from your identity provider.",
    )
