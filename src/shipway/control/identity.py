"""The keys of the identity provider, fetched again and again: OpenID Connect Discovery 1.0, section 4.

Gateways get them with their snapshot and never ask the provider themselves; with the provider away the keys
that are known go on to hold.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import httpx
import msgspec

from shipway.control.access import Access
from shipway.core.errors import DependencyError
from shipway.wire.tokens import TokenRules

REFRESH_S = 60.0
"""A provider publishes its next key long before it signs with it; ours is known after so long."""

RETRY_S = 5.0
MAX_BYTES = 1024 * 1024
_TIMEOUT_S = 10.0
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_log = logging.getLogger(__name__)


class _Configuration(msgspec.Struct):
    jwks_uri: str


class _KeySet(msgspec.Struct):
    keys: list[dict[str, object]]


async def follow_provider(access: Access, rules: TokenRules, place: str) -> None:
    """Keeps `access.tokens` at the provider's keys until cancelled.

    `place` is where the key set is: a URL, a file (read again when it changes), or nothing for where the
    issuer's configuration says.
    """
    access.tokens = rules
    async with httpx.AsyncClient(timeout=_TIMEOUT_S) as http:
        while True:
            pause_s = REFRESH_S
            try:
                keys = await _fetched(http, rules.issuer, place)
            except DependencyError as exc:
                _log.warning("%s", exc)
                pause_s = RETRY_S if not access.tokens.keys else REFRESH_S
            else:
                if keys != access.tokens.keys:
                    access.tokens = msgspec.structs.replace(rules, keys=keys)
                    access.poke()
            await asyncio.sleep(pause_s)


async def _fetched(http: httpx.AsyncClient, issuer: str, place: str) -> bytes:
    """The key set, whole and well formed.

    Raises:
        DependencyError: it cannot be had.
    """
    try:
        if place and "://" not in place:
            body = await asyncio.to_thread(Path(place).read_bytes)
        else:
            url = place or await _key_set_url(http, issuer)
            body = await _got(http, url)
        found = msgspec.json.decode(body, type=_KeySet)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, *_UNREADABLE) as exc:
        raise DependencyError(
            f"The keys of the identity provider `{issuer}` cannot be read: {exc}.",
            next_step="Tokens are judged by the keys known before; check SHIPWAY_OIDC_ISSUER and"
            " SHIPWAY_OIDC_KEYS.",
        ) from exc
    return msgspec.json.encode(found)


async def _key_set_url(http: httpx.AsyncClient, issuer: str) -> str:
    body = await _got(http, f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    return msgspec.json.decode(body, type=_Configuration).jwks_uri


async def _got(http: httpx.AsyncClient, url: str) -> bytes:
    body = b""
    async with http.stream("GET", url) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_bytes():
            body += chunk
            if len(body) > MAX_BYTES:
                raise OSError(f"the answer is over {MAX_BYTES} bytes")
    return body
