"""Following an identity provider that says nonsense, or nothing: what is known holds, and control goes on."""

import asyncio
import contextlib

import pytest

from shipway.control import identity
from shipway.control.access import Access
from shipway.control.identity import follow_provider
from shipway.store.sql.database import Database, sqlite_url
from shipway.wire.tokens import TokenRules

RULES = TokenRules(issuer="https://id.example", audience="shipway")


@pytest.mark.parametrize(
    "nonsense", [b'{"keys": "\xff"}', b"[" * 5000, b"{}", b"", b'{"keys": [1]}', None]
)
async def test_nonsense_ends_nothing_and_the_keys_come_when_they_are_there(
    tmp_path, monkeypatch, nonsense
):
    monkeypatch.setattr(identity, "RETRY_S", 0.01)
    place = tmp_path / "jwks.json"
    if nonsense is not None:
        place.write_bytes(nonsense)
    database = Database.open(sqlite_url(tmp_path))
    access, heard = Access(database, environment="dev"), asyncio.Event()
    access.poke = heard.set
    following = asyncio.create_task(follow_provider(access, RULES, str(place)))
    await asyncio.sleep(0.05)
    assert not following.done()
    assert access.tokens == RULES
    place.write_bytes(b'{"keys": [{"kty": "EC", "kid": "a"}]}')
    async with asyncio.timeout(10):
        await heard.wait()
    assert b'"kid":"a"' in access.tokens.keys
    following.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await following
    database.close()
