"""Settings, and the only reader of environment variables (each is `SHIPWAY_` and the upper-case name)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shipway.core.errors import InvalidSpec

DEFAULT_GRPC_PORT = 8081
Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """Where things are and on what they listen. Every field has an environment variable."""

    model_config = SettingsConfigDict(env_prefix="SHIPWAY_")

    state_dir: Path = Path(".shipway")
    """Directory of everything that this machine keeps."""

    database_url: str | None = None
    """SQLAlchemy URL of the database; SQLite in the state directory when unset."""

    artifacts_url: str | None = None
    """Object-store URL (`s3://bucket/prefix`, `file:///path`) of the bundles; the state directory when unset."""

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

    cache_url: Annotated[str, Field(pattern=r"^(valkeys?|rediss?|unix)://")] | None = None
    """Valkey or Redis (`valkey://host:6379/0`) where gateways keep the answers of endpoints with a `cache`; in each gateway when unset."""

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

    max_bundle_bytes: int = 16 * 1024**3
    """Control refuses larger uploads."""

    @property
    def chosen_grpc_port(self) -> int:
        """`grpc_port`, or what stands for it when it is unset."""
        if self.grpc_port is not None:
            return self.grpc_port
        return DEFAULT_GRPC_PORT if self.gateway_port else 0

    def as_variables(self) -> dict[str, str]:
        """The environment variables from which another process gets these very settings."""
        values = self.model_dump(exclude_none=True)
        return {f"SHIPWAY_{name.upper()}": str(value) for name, value in values.items()}


def read_settings(**given: Any) -> Settings:
    """The settings of the environment, with those `given` in front; None among them is not given.

    Raises:
        InvalidSpec: a value is not valid; the variable is named.
    """
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as exc:
        first = exc.errors()[0]
        name = str(first["loc"][0])
        fact = first["msg"][:1].lower() + first["msg"][1:]
        raise InvalidSpec(
            f"Setting `SHIPWAY_{name.upper()}` cannot be {first['input']!r}: {fact}.",
            next_step="Correct the variable or the option; docs/reference/settings.md has them all.",
            path=name,
        ) from exc


_PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")


def provider_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables of cloud providers, for the artifact store."""
    return {name: value for name, value in environment.items() if name.startswith(_PROVIDERS)}


_PLATFORMS = ("AIP_", "SAGEMAKER_")


def platform_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables by which Vertex AI and SageMaker tell a container where to listen."""
    return {name: value for name, value in environment.items() if name.startswith(_PLATFORMS)}


def variables_with(settings: Settings) -> dict[str, str]:
    """This process's environment with these settings in it, for a process of ours."""
    return {**os.environ, **settings.as_variables()}


def gateway_variables(settings: Settings) -> dict[str, str]:
    """This process's environment for a gateway, which has no business with database or bundles."""
    secret = ("SHIPWAY_DATABASE_URL", "SHIPWAY_ARTIFACTS_URL", *_PROVIDERS)
    own = {name: value for name, value in os.environ.items() if not name.startswith(secret)}
    return own if settings.cache_url is None else own | {"SHIPWAY_CACHE_URL": settings.cache_url}
