"""Settings, and the only reader of environment variables (each is `SHIPWAY_` and the upper-case name)."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shipway.core.addresses import OutboundPolicy
from shipway.core.costs import Prices
from shipway.core.errors import InvalidSpec, SecretUnavailable
from shipway.core.secrets import OWN, OWN_PLACES, PROVIDERS, SecretRules

DEFAULT_GRPC_PORT = 8081
Port = Annotated[int, Field(ge=0, le=65535)]

SECRETS = ("database_url", "artifacts_url", "cache_url", "limits_url", "prometheus_url", "api_key")
"""Settings that may hold a password: each has a `_file` beside it, and is shown by nothing."""

LARGEST_SECRET_BYTES = 64 * 1024


class Settings(BaseSettings):
    """Where things are and on what they listen. Every field has an environment variable."""

    model_config = SettingsConfigDict(env_prefix="SHIPWAY_", hide_input_in_errors=True)

    state_dir: Path = Path(".shipway")
    """Directory of everything that this machine keeps."""

    database_url: Annotated[str | None, Field(repr=False)] = None
    """SQLAlchemy URL of the database; SQLite in the state directory when unset."""

    database_url_file: Path | None = None
    """File that holds `SHIPWAY_DATABASE_URL`, as a mounted secret does. Read whenever control starts."""

    artifacts_url: Annotated[str | None, Field(repr=False)] = None
    """Object-store URL (`s3://bucket/prefix`, `file:///path`) of the bundles; the state directory when unset."""

    artifacts_url_file: Path | None = None
    """File that holds `SHIPWAY_ARTIFACTS_URL`. Read whenever control starts."""

    environment: str = "dev"
    """The environment that this server's gateways serve."""

    host: str = "127.0.0.1"
    """Address that gateway and control bind."""

    gateway_port: Port = 8080
    """Port of the gateway; 0 takes a free one."""

    grpc_port: Port | None = None
    """Port of the gateway's gRPC; 0 takes a free one. When unset 8081, or a free one when `gateway_port` is 0."""

    control_port: Port = 8090
    """Port of the control API; 0 takes a free one."""

    control_url: str | None = None
    """Where gateways, CLI and SDK find control; the local server's address when unset."""

    cache_url: Annotated[str | None, Field(pattern=r"^(valkeys?|rediss?|unix)://", repr=False)] = (
        None
    )
    """Valkey or Redis (`valkey://host:6379/0`) where gateways keep the answers of endpoints with a `cache`; in each gateway when unset."""

    limits_url: Annotated[str | None, Field(pattern=r"^(valkeys?|rediss?|unix)://", repr=False)] = (
        None
    )
    """Valkey or Redis where gateways of several machines count together what callers and endpoints use of their limits; each machine for itself when unset."""

    prometheus_url: Annotated[str | None, Field(pattern=r"^https?://", repr=False)] = None
    """Prometheus (`http://host:9090`) that scrapes gateways and control: measures of the past come from there, not from the database; user and password may be in the URL."""

    prometheus_url_file: Path | None = None
    """File that holds `SHIPWAY_PROMETHEUS_URL`. Read whenever control starts."""

    limits_url_file: Path | None = None
    """File that holds `SHIPWAY_LIMITS_URL`. Read when the server, or a gateway run alone, starts."""

    cache_url_file: Path | None = None
    """File that holds `SHIPWAY_CACHE_URL`. Read when the server, or a gateway run alone, starts."""

    allowed_secrets: Annotated[
        str, Field(pattern=r"^((env:|file:/)[^,\s]+(,\s*(env:|file:/)[^,\s]+)*)?$")
    ] = ""
    """Which references `secrets` of an endpoint may use: patterns such as `env:HF_*,file:/run/secrets/models/*`. None when unset; the server's own never."""
    tls_cert: Path | None = None
    """PEM certificate, with its chain, that gateway, gRPC and control show; `tls/server.crt` of the state directory when unset and there. With one they speak TLS only."""

    tls_key: Path | None = None
    """PEM key of that certificate; `tls/server.key` of the state directory when unset."""

    tls_ca: Path | None = None
    """PEM certificates that callers (CLI, SDK, gateways calling control) trust; `tls/ca.crt` of the state directory when unset and there, else the system's."""

    tls_client_ca: Path | None = None
    """PEM certificates that vouch for callers of gateway, gRPC and control that show one of their own; `tls/ca.crt` of the state directory when unset and there."""

    memory_budget_mb: Annotated[int, Field(ge=1)] | None = None
    """What all replica processes may hold in memory together; idle models make room for those that are asked. No bound when unset."""

    auth: bool = True
    """Whether callers must say who they are; `false` lets everybody on this machine do everything."""

    anyone_on_the_network: bool = False
    """With `auth` off and another `host` than loopback: that everybody who can reach the ports may do everything."""

    api_key: Annotated[str | None, Field(repr=False)] = None
    """The key that CLI, SDK and a gateway of its own present; for the local server they find one by themselves."""

    api_key_file: Path | None = None
    """File that holds `SHIPWAY_API_KEY`."""

    oidc_issuer: Annotated[str, Field(pattern=r"^(https://|http://(localhost|127\.))")] | None = (
        None
    )
    """Identity provider (OpenID Connect) whose tokens are taken: its issuer URL, `https`."""

    oidc_audience: str = "shipway"
    """The audience that its tokens must name."""

    oidc_keys: str | None = None
    """Where its key set (JWKS) is: a URL or a file; where the issuer's configuration says when unset."""

    oidc_name_claim: str = "sub"
    """The claim that names who calls, as `shipway access grant user:NAME` does."""

    oidc_groups_claim: str = "groups"
    """The claim that lists their groups, as `shipway access grant group:NAME` does."""

    trace_share: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share (0 to 1) of traces that are sent to the collector at `OTEL_EXPORTER_OTLP_ENDPOINT`, by chance; those of failed and slow requests always are. When unset what `OTEL_TRACES_SAMPLER` says, else 0.01."""

    log_format: Literal["text", "json"] = "text"
    """How lines of logs look: `text`, or `json` for one object a line."""

    access_log: bool = False
    """Whether gateways write a line for each prediction that was asked for."""

    docs_url: Annotated[str, Field(pattern=r"^(https?://\S+)?$")] = ""
    """Where these docs are read (`https://docs.example.com/shipway`); alerts link their runbooks below it. The path in the repository when unset."""

    outbound_networks: Annotated[
        str, Field(pattern=r"^([0-9a-fA-F.:]+/\d+(,\s*[0-9a-fA-F.:]+/\d+)*)?$")
    ] = ""
    """Networks that channels of alerts may reach besides the public internet, such as `10.0.0.0/8,127.0.0.0/8`. Who makes a channel can then call whatever is there."""

    outbound_http: bool = False
    """Whether webhooks may be called without TLS (`http://`)."""

    max_bundle_bytes: int = 16 * 1024**3
    """Control refuses larger uploads."""

    cpu_hour_price: Annotated[float, Field(ge=0)] = 0.033
    """What an hour of one core costs, in `currency`; about what clouds ask for one on demand."""

    memory_gb_hour_price: Annotated[float, Field(ge=0)] = 0.0045
    """What an hour of 10**9 bytes of memory costs."""

    gpu_hour_price: Annotated[float, Field(ge=0)] = 2.5
    """What an hour of one GPU costs."""

    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    """The currency of the prices and of budgets (ISO 4217)."""

    allowed_imports: str = ""
    """Names that pickles may import besides the scan's own allow-list: `package.module.Name` or `package.module.*`, separated by commas."""

    allowed_onnx_domains: str = ""
    """Domains whose ONNX operators may be used besides the standard ones, separated by commas."""

    @property
    def prices(self) -> Prices:
        """The prices of what runs."""
        return Prices(
            cpu_hour=self.cpu_hour_price,
            memory_gb_hour=self.memory_gb_hour_price,
            gpu_hour=self.gpu_hour_price,
            currency=self.currency,
        )

    @property
    def outbound_policy(self) -> OutboundPolicy:
        """What may be called when a caller named it.

        Raises:
            InvalidSpec: one of the networks is none.
        """
        networks = _listed(self.outbound_networks)
        for network in networks:
            try:
                ip_network(network, strict=False)
            except ValueError as exc:
                raise InvalidSpec(
                    f"Setting `SHIPWAY_OUTBOUND_NETWORKS` has `{network}`, which is no network.",
                    next_step="Write networks such as `10.0.0.0/8`, separated by commas.",
                ) from exc
        return OutboundPolicy(networks=networks, plain=self.outbound_http)

    @property
    def imports(self) -> tuple[str, ...]:
        """The names in `allowed_imports`."""
        return _listed(self.allowed_imports)

    @property
    def onnx_domains(self) -> tuple[str, ...]:
        """The names in `allowed_onnx_domains`."""
        return _listed(self.allowed_onnx_domains)

    @property
    def chosen_grpc_port(self) -> int:
        """`grpc_port`, or what stands for it when it is unset."""
        if self.grpc_port is not None:
            return self.grpc_port
        return DEFAULT_GRPC_PORT if self.gateway_port else 0

    def as_variables(self) -> dict[str, str]:
        """The environment variables from which another process gets these very settings."""
        # What a file holds is read again by whoever starts: it may have changed.
        from_files = {name for name in SECRETS if getattr(self, f"{name}_file") is not None}
        values = self.model_dump(exclude_none=True, exclude=from_files)
        return {f"SHIPWAY_{name.upper()}": str(value) for name, value in values.items()}


def _listed(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def read_settings(**given: Any) -> Settings:
    """The settings of the environment, with those `given` in front; None among them is not given.

    Raises:
        InvalidSpec: a value is not valid, or given twice; the variable is named.
        SecretUnavailable: the file that holds one cannot be read.
    """
    known = {name: value for name, value in given.items() if value is not None}
    settings = _valid(known)
    contents = {
        name: _content_for(f"SHIPWAY_{name.upper()}", path, is_given=bool(getattr(settings, name)))
        for name in SECRETS
        if (path := getattr(settings, f"{name}_file")) is not None
    }
    return _valid({**known, **contents}) if contents else settings


def _valid(given: Mapping[str, Any]) -> Settings:
    try:
        return Settings(**given)
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0])
        fact = first["msg"][:1].lower() + first["msg"][1:]
        value = "what it is" if name in SECRETS else repr(first["input"])
        raise InvalidSpec(
            f"Setting `SHIPWAY_{name.upper()}` cannot be {value}: {fact}.",
            next_step="Correct the variable or the option; docs/reference/settings.md has them all.",
            path=name,
        ) from exc


def _content_for(variable: str, path: Path, *, is_given: bool) -> str:
    """What the file beside a variable holds."""
    if is_given:
        raise InvalidSpec(
            f"Both `{variable}` and `{variable}_FILE` are set.", next_step="Unset one of them."
        )
    try:
        return content_of(str(path))
    except (OSError, ValueError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else str(exc)
        raise SecretUnavailable(
            f"`{variable}_FILE` is `{path}`, which cannot be read: {why}.",
            next_step="Mount the secret there, or correct the variable.",
        ) from None


def content_of(path: str) -> str:
    """The secret in a file, without the one newline that may end it. Never waits for a writer.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no plain file, empty, too large, or no text; the message says which.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError("it is no plain file")
        content = stream.read(LARGEST_SECRET_BYTES + 1)
    if len(content) > LARGEST_SECRET_BYTES:
        raise ValueError(f"it has more than {LARGEST_SECRET_BYTES:,} bytes")
    content = content.removesuffix(b"\n").removesuffix(b"\r")
    if not content or b"\0" in content:
        raise ValueError("it is empty" if not content else "it holds a zero byte")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8 text") from None


_PROVIDER_SECRETS = (
    *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    *("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET"),
)
"""Variables that may come from a file as settings do. Others name files of their own
(`AWS_WEB_IDENTITY_TOKEN_FILE`, `GOOGLE_APPLICATION_CREDENTIALS`)."""


def provider_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of cloud providers, for the artifact store; what `…_FILE` names is read.

    Raises:
        InvalidSpec: a secret is given twice.
        SecretUnavailable: the file that holds one cannot be read.
    """
    known = {name: value for name, value in environment.items() if name.startswith(PROVIDERS)}
    contents = {
        name: _content_for(name, Path(known[f"{name}_FILE"]), is_given=bool(known.get(name)))
        for name in _PROVIDER_SECRETS
        if known.get(f"{name}_FILE")
    }
    return known | contents


def secret_rules(settings: Settings, environment: Mapping[str, str] = os.environ) -> SecretRules:
    """Which references endpoints may use: none to the state directory, or to what our own variables name."""
    named = {path for name, path in environment.items() if name.startswith(OWN)}
    places = {
        str(settings.state_dir),
        *(str(path) for name in SECRETS if (path := getattr(settings, f"{name}_file"))),
        *(path for path in named if path.startswith("/") and path != "/"),
        *(os.path.expanduser(f"~/{name}") for name in _PROVIDER_HOMES),
    }
    # Both as they are written and where their links lead: a reference may be either.
    both = {form(place) for place in places for form in (os.path.abspath, os.path.realpath)}
    return SecretRules(allowed=_patterns(settings), own_places=(*OWN_PLACES, *sorted(both)))


_PROVIDER_HOMES = (".aws", ".azure", ".config/gcloud")


def _patterns(settings: Settings) -> tuple[str, ...]:
    return tuple(part.strip() for part in settings.allowed_secrets.split(",") if part.strip())


_PLATFORMS = ("AIP_", "SAGEMAKER_")


def platform_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables by which Vertex AI and SageMaker tell a container where to listen."""
    return {name: value for name, value in environment.items() if name.startswith(_PLATFORMS)}


def variables_with(settings: Settings) -> dict[str, str]:
    """This process's environment with these settings in it, for a process of ours."""
    return {**os.environ, **settings.as_variables()}


def gateway_variables(settings: Settings) -> dict[str, str]:
    """This process's environment for a gateway, which has no business with database, bundles or models' secrets."""
    rules = SecretRules(allowed=_patterns(settings))
    secret = (*(f"SHIPWAY_{name.upper()}" for name in SECRETS), *PROVIDERS)
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(secret) and not rules.covers_variable(name)
    }
    own["SHIPWAY_ANYONE_ON_THE_NETWORK"] = str(settings.anyone_on_the_network)
    urls = {"SHIPWAY_CACHE_URL": settings.cache_url, "SHIPWAY_LIMITS_URL": settings.limits_url}
    return own | {name: url for name, url in urls.items() if url is not None}


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    return host.startswith("127.") or host in ("::1", "localhost")


def require_guarded(settings: Settings) -> None:
    """Refuses to open a server without access control to other machines, unless that was asked for.

    Raises:
        InvalidSpec: it would be open.
    """
    if settings.auth or is_loopback(settings.host) or settings.anyone_on_the_network:
        return
    raise InvalidSpec(
        f"Without access control everybody who reaches `{settings.host}` could change and read everything.",
        next_step="Leave `--no-auth` out, listen on 127.0.0.1, or add `--anyone-on-the-network`"
        " if that is what you want.",
    )
