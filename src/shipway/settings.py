"""Settings, and the only reader of environment variables (each is `SHIPWAY_` and the upper-case name)."""

from __future__ import annotations

from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict


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

    gateway_port: int = 8080
    """Port of the gateway; 0 takes a free one."""

    control_port: int = 8090
    """Port of the control API; 0 takes a free one."""

    control_url: str | None = None
    """Where gateways, CLI and SDK find control; the local server's address when unset."""

    max_bundle_bytes: int = 16 * 1024**3
    """Control refuses larger uploads."""
