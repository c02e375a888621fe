"""Posts to webhooks, where the outbound policy allows it."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from shipway.control.outbound import outbound_client
from shipway.core.addresses import OutboundPolicy
from shipway.core.errors import InvalidRequest, ServerUnreachable

_TIMEOUT_S = 10.0
_GONE = 410


def posted(
    url: str, headers: Mapping[str, str], body: bytes, policy: OutboundPolicy
) -> tuple[str, bool]:
    """Why a body was not taken, and whether it never will be; empty when it was (2xx).

    Nothing of the URL but its host is in the reason.
    """
    try:
        with (
            outbound_client(policy, timeout_s=_TIMEOUT_S) as client,
            client.stream("POST", url, content=body, headers=dict(headers)) as answer,
        ):
            # The body of the answer is not read: it may have no end.
            if answer.is_success and answer.request.method == "POST":
                return "", False
            if answer.is_success:
                return (
                    "It redirects, which loses what is sent: name the address that it leads to.",
                    False,
                )
            return f"It answered with {answer.status_code}.", answer.status_code == _GONE
    except InvalidRequest as exc:
        return exc.message, True
    except ServerUnreachable as exc:
        return exc.message, False
    except (httpx.HTTPError, httpx.InvalidURL) as exc:
        return f"It did not answer ({type(exc).__name__}).", isinstance(exc, httpx.InvalidURL)
