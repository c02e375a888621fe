"""The signature of a webhook: proof of who sent a body and when, as Stripe's is.

    X-Shipway-Signature: t=1760000000,v1=<hex HMAC-SHA256 of "1760000000." + body>

The receiver computes it again with the secret that it was given, compares in constant time, and refuses
times that are long past, so that a body that was overheard cannot be sent again later.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

SIGNATURE = "X-Shipway-Signature"
IDEMPOTENCY_KEY = "Idempotency-Key"
"""The same at every attempt to send a message."""

TOLERANCE_S = 300


def signature_of(secret: str, body: bytes, *, at_s: int) -> str:
    """The header's value; `at_s` is when it is sent, in seconds since 1970."""
    return f"t={at_s},v1={_digest(secret, body, at_s)}"


def is_signed(header: str, secret: str, body: bytes, *, now_s: float) -> bool:
    """Whether a body was sent within the last five minutes by who has the secret."""
    parts = dict(part.partition("=")[::2] for part in header.split(","))
    at, signature = parts.get("t", ""), parts.get("v1", "")
    if not at.isdecimal() or abs(now_s - int(at)) > TOLERANCE_S:
        return False
    return hmac.compare_digest(_digest(secret, body, int(at)), signature)


def _digest(secret: str, body: bytes, at_s: int) -> str:
    return hmac.new(secret.encode(), f"{at_s}.".encode() + body, sha256).hexdigest()
