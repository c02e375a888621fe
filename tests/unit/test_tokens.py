"""Tokens of an identity provider: only what it signed for us, now, opens anything."""

import base64
import hmac
import json

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from shipway.core.access import Grant, Role
from shipway.core.errors import Unauthenticated
from shipway.core.keys import digest_of, read_key, written
from shipway.wire.credentials import KeyEntry, principal_of
from shipway.wire.tokens import LEEWAY_S, TokenRules, claims_of

NOW_S = 1_800_000_000.0
RSA, NEXT = RSAKey.generate_key(2048, {"kid": "rsa"}), ECKey.generate_key("P-256", {"kid": "ec"})
STRANGER = RSAKey.generate_key(2048, {"kid": "rsa"})
KEYS = json.dumps(KeySet([RSA, NEXT]).as_dict(private=False)).encode()
RULES = TokenRules(issuer="https://id.example", audience="shipway", keys=KEYS)
CLAIMS = {
    "iss": "https://id.example", "aud": "shipway", "sub": "ada", "exp": NOW_S + 60,
    "groups": ["risk", "ops"],
}  # fmt: skip


def token(claims=CLAIMS, *, key=RSA, **header):
    header = {"alg": "RS256" if isinstance(key, RSAKey) else "ES256", "kid": key.kid, **header}
    return jwt.encode(header, claims, key, algorithms=[header["alg"]])


def b64(value):
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def without(name):
    return {key: value for key, value in CLAIMS.items() if key != name}


@pytest.mark.parametrize("key", [RSA, NEXT])
def test_a_good_token_says_who_calls(key):
    claims = claims_of(token(key=key), RULES, NOW_S)
    assert (claims.name, claims.groups) == ("ada", ("risk", "ops"))
    assert claims.expires_at_s == NOW_S + 60


def test_a_list_of_audiences_may_hold_ours():
    assert claims_of(token({**CLAIMS, "aud": ["other", "shipway"]}), RULES, NOW_S).name == "ada"


def hmac_with_the_public_key():
    """CVE-2015-9235: the verifier takes the public key for an HMAC secret."""
    signed = f"{b64({'alg': 'HS256', 'kid': 'rsa'})}.{b64(CLAIMS)}"
    seal = hmac.digest(RSA.as_pem(private=False), signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


def with_own_key():
    """The token brings the key that it was signed with."""
    return raw({"alg": "RS256", "jwk": STRANGER.as_dict(private=False)}, CLAIMS, STRANGER)


def raw(header, claims, key):
    """What no library would sign."""
    signed = f"{b64(header)}.{b64(claims)}"
    seal = key.get_op_key("sign").sign(signed.encode(), PKCS1v15(), SHA256())
    return f"{signed}.{base64.urlsafe_b64encode(seal).rstrip(b'=').decode()}"


FORGED = {
    "alg none": f"{b64({'alg': 'none', 'kid': 'rsa'})}.{b64(CLAIMS)}.",
    "alg None": f"{b64({'alg': 'None'})}.{b64(CLAIMS)}.",
    "no alg": f"{b64({'kid': 'rsa'})}.{b64(CLAIMS)}.x",
    "hmac": hmac_with_the_public_key(),
    "own key": with_own_key(),
    "stranger with our key id": token(key=STRANGER),
    "unknown key id": token(kid="gone"),
    "no key id among several": f"{b64({'alg': 'RS256'})}.{token().split('.', 1)[1]}",
    "another payload": ".".join([token().split(".")[0], b64({**CLAIMS, "sub": "eve"}), token().split(".")[2]]),
    "no signature": token().rsplit(".", 1)[0] + ".",
    "expired": token({**CLAIMS, "exp": NOW_S - LEEWAY_S - 1}),
    "not yet": token({**CLAIMS, "nbf": NOW_S + LEEWAY_S + 1}),
    "no expiry": raw({"alg": "RS256", "kid": "rsa"}, without("exp"), RSA),
    "expiry is a word": raw({"alg": "RS256", "kid": "rsa"}, {**CLAIMS, "exp": "never"}, RSA),
    "expiry is endless": raw({"alg": "RS256", "kid": "rsa"}, {**CLAIMS, "exp": 1e400}, RSA),
    "wrong audience": token({**CLAIMS, "aud": "other"}),
    "no audience": token(without("aud")),
    "wrong issuer": token({**CLAIMS, "iss": "https://evil.example"}),
    "no issuer": token(without("iss")),
    "nobody": token(without("sub")),
    "name is a list": raw({"alg": "RS256", "kid": "rsa"}, {**CLAIMS, "sub": ["ada"]}, RSA),
    "name forges a log line": token({**CLAIMS, "sub": "ada\nadmin"}),
    "critical header": raw({"alg": "RS256", "kid": "rsa", "crit": ["x"], "x": 1}, CLAIMS, RSA),
    "too long": token({**CLAIMS, "padding": "x" * 20_000}),
    "not base64": "a.b.c",
    "empty": "..",
}  # fmt: skip


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED.keys())
def test_forged_tokens_prove_nothing(forged):
    with pytest.raises(Unauthenticated):
        claims_of(forged, RULES, NOW_S)


def test_clocks_may_differ_a_little():
    claims_of(token({**CLAIMS, "exp": NOW_S - LEEWAY_S + 1}), RULES, NOW_S)
    claims_of(token({**CLAIMS, "nbf": NOW_S + LEEWAY_S - 1}), RULES, NOW_S)


def test_after_a_rotation_the_old_key_opens_nothing():
    later = json.dumps(KeySet([NEXT]).as_dict(private=False)).encode()
    rules = TokenRules(issuer=RULES.issuer, audience=RULES.audience, keys=later)
    assert claims_of(token(key=NEXT), rules, NOW_S).name == "ada"
    with pytest.raises(Unauthenticated):
        claims_of(token(key=RSA), rules, NOW_S)


def test_keys_that_nobody_here_knows_or_that_encrypt_spoil_nothing():
    public = RSA.as_dict(private=False)
    others = [
        {"kty": "AKP", "kid": "from the future", "alg": "ML-DSA-65"},
        {"kty": "oct", "kid": "secret", "k": "c2VjcmV0"},
        {"kty": "RSA", "kid": "broken"},
        {**STRANGER.as_dict(private=False), "kid": "enc", "use": "enc"},
        {"kid": "no kind"},
    ]
    keys = json.dumps({"keys": [*others, public]}).encode()
    rules = TokenRules(issuer=RULES.issuer, audience=RULES.audience, keys=keys)
    assert claims_of(token(), rules, NOW_S).name == "ada"
    for kid in ("from the future", "secret", "broken", "enc", "no kind"):
        with pytest.raises(Unauthenticated):
            claims_of(token(key=STRANGER, kid=kid), rules, NOW_S)


@given(st.text("abcAB19-_.=%\x00é{", max_size=200))
def test_no_text_is_anything_but_refused(text):
    with pytest.raises(Unauthenticated):
        claims_of(text, RULES, NOW_S)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_changed_byte_passes(place, change):
    good = token().encode()
    place %= len(good)
    bad = good[:place] + bytes([good[place] ^ change]) + good[place + 1 :]
    try:
        claims = claims_of(bad.decode("latin-1"), RULES, NOW_S)
    except Unauthenticated:
        return
    # Bits that base64url does not use, at the end of a part, change no byte of what was signed.
    assert claims == claims_of(good.decode(), RULES, NOW_S)


class Directory:
    """One key, and what groups may do."""

    tokens = RULES
    text = written("a" * 12, "s" * 43)

    def key(self, key_id):
        known = read_key(self.text)
        entry = KeyEntry(
            id=known.id, name="ci", digest=known.digest, grants=(), expires_at_s=NOW_S + 5
        )
        return entry if key_id == known.id else None

    def granted(self, subject):
        roles = {"user:ada": Role.VIEWER, "group:risk": Role.APPROVER}
        return (Grant(role=roles[subject]),) if subject in roles else ()


@pytest.mark.parametrize("form", ["Bearer {}", "bearer   {} ", "{}"])
def test_keys_and_tokens_are_taken_in_the_usual_headers(form):
    directory = Directory()
    assert principal_of(form.format(directory.text).encode(), directory, NOW_S).name == "ci"
    by_token = principal_of(form.format(token()).encode(), directory, NOW_S)
    assert [grant.role for grant in by_token.grants] == [Role.VIEWER, Role.APPROVER]


def test_basic_carries_the_key_as_password():
    pair = base64.b64encode(f"anybody:{Directory.text}".encode())
    assert principal_of(b"Basic " + pair, Directory(), NOW_S).name == "ci"


@pytest.mark.parametrize(
    "credential",
    [b"", b"Bearer", b"Bearer ", b"Basic !", b"Basic \xff", b"Digest x", b"\xff" * 30,
     f"Bearer {written('a' * 12, 't' * 43)}".encode(), f"Bearer {written('b' * 12, 's' * 43)}".encode(),
     f"Bearer {Directory.text}x".encode(), digest_of(Directory.text).encode()],
)  # fmt: skip
def test_what_is_no_good_key_proves_nothing(credential):
    with pytest.raises(Unauthenticated):
        principal_of(credential, Directory(), NOW_S)


def test_an_expired_key_says_so():
    with pytest.raises(Unauthenticated, match="has expired"):
        principal_of(f"Bearer {Directory.text}".encode(), Directory(), NOW_S + 5)
