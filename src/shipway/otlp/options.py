"""Where a collector is and how it is called, by OpenTelemetry's own environment variables.

https://opentelemetry.io/docs/specs/otel/protocol/exporter/; of the protocols it is `http/protobuf`.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

import msgspec

from shipway.core.errors import InvalidSpec
from shipway.core.sampling import Sampler

SHARE = 0.01
"""Of the traces, when an address is set and nothing is said of how many."""

_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_TIMEOUT_MS = 10_000.0
_MOST_TIMEOUT_MS = 60_000.0


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """One address of a collector. `headers` may hold its key; `ca` is a file of PEM certificates."""

    url: str
    headers: tuple[tuple[str, str], ...] = ()
    timeout_s: float = 10.0
    ca: str = ""
    compresses: bool = False


class OtlpOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What is sent where: spans, log records; None for nowhere. `service` names what sends, empty for its own."""

    traces: Target | None = None
    logs: Target | None = None
    service: str = ""


def options_of(environment: Mapping[str, str]) -> OtlpOptions:
    """The options in environment variables. Without an address nothing is sent, whatever else is set.

    Numbers and names that make no sense are passed over, as OpenTelemetry asks for.
    """
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return OtlpOptions()
    return OtlpOptions(
        traces=_target(environment, "TRACES", "v1/traces"),
        logs=_target(environment, "LOGS", "v1/logs"),
        service=environment.get("OTEL_SERVICE_NAME", "").strip(),
    )


def sampler_of(environment: Mapping[str, str]) -> Sampler:
    """The sampler by `OTEL_TRACES_SAMPLER` and `…_ARG`; one that keeps `SHARE` when they do not say.

    Without `parentbased_` it does not heed callers. An argument that is missing or no share is 1.
    https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    name = environment.get("OTEL_TRACES_SAMPLER", "").strip()
    kind = name.removeprefix("parentbased_")
    shares = {"always_on": 1.0, "always_off": 0.0, "traceidratio": _ratio(environment, 1.0)}
    if kind not in shares:
        return Sampler(share=SHARE if kind else _ratio(environment, SHARE))
    return Sampler(share=shares[kind], heeds_callers=kind != name)


def _ratio(environment: Mapping[str, str], instead: float) -> float:
    ratio = _number(environment.get("OTEL_TRACES_SAMPLER_ARG", "").strip(), instead)
    return ratio if 0.0 <= ratio <= 1.0 else instead


def chosen_sampler(environment: Mapping[str, str]) -> Sampler:
    """The sampler by `SHIPWAY_TRACE_SHARE`; by OpenTelemetry's variables where it is not set.

    Raises:
        InvalidSpec: it is no share.
    """
    given = environment.get("SHIPWAY_TRACE_SHARE", "").strip()
    if not given:
        return sampler_of(environment)
    share = _number(given, -1.0)
    if not 0.0 <= share <= 1.0:
        raise InvalidSpec(
            f"Setting `SHIPWAY_TRACE_SHARE` cannot be {given!r}: it is no number from 0 to 1.",
            next_step="Correct the variable: a tenth of the traces is `0.1`.",
        )
    return Sampler(share=share)


def _target(environment: Mapping[str, str], signal: str, path: str) -> Target | None:
    own = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT", "").strip()
    base = environment.get(_ENDPOINT, "").strip()
    url = own or (f"{base.rstrip('/')}/{path}" if base else "")
    if not url.startswith(("http://", "https://")):
        return None
    if environment.get(f"OTEL_{signal}_EXPORTER", "otlp").strip().lower() == "none":
        return None

    def value(name: str) -> str:
        general = environment.get(f"OTEL_EXPORTER_OTLP_{name}", "")
        return environment.get(f"OTEL_EXPORTER_OTLP_{signal}_{name}", general).strip()

    timeout_ms = _number(value("TIMEOUT"), _TIMEOUT_MS)
    return Target(
        url=url,
        headers=_headers(value("HEADERS")),
        timeout_s=min(timeout_ms if timeout_ms > 0 else _TIMEOUT_MS, _MOST_TIMEOUT_MS) / 1000,
        ca=value("CERTIFICATE"),
        compresses=value("COMPRESSION").lower() == "gzip",
    )


def _headers(text: str) -> tuple[tuple[str, str], ...]:
    """`key=value,key=value`, percent-encoded as in W3C Baggage."""
    pairs = (part.partition("=") for part in text.split(",") if "=" in part)
    return tuple(
        (name, unquote(value.strip())) for key, _, value in pairs if (name := key.strip().lower())
    )


def _number(text: str, instead: float) -> float:
    try:
        return float(text)
    except ValueError:
        return instead
