"""Starting and ending the server of a state directory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from shipway.core.errors import InvalidSpec
from shipway.settings import Settings


def settings_of(
    *,
    state_dir: Path | None = None,
    gateway_port: int | None = None,
    control_port: int | None = None,
    host: str | None = None,
) -> Settings:
    """The settings of the environment, with the options that were given in front."""
    given: dict[str, Any] = {
        "state_dir": state_dir,
        "gateway_port": gateway_port,
        "control_port": control_port,
        "host": host,
    }
    return Settings(**{name: value for name, value in given.items() if value is not None})


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of `endpoint` specs or of `model` (model.yaml).

    Raises:
        InvalidSpec: the kind is neither.
    """
    from shipway.bundles.overrides import overrides_schema
    from shipway.wire.specs import spec_schema

    schemas = {"endpoint": spec_schema, "model": overrides_schema}
    if kind not in schemas:
        raise InvalidSpec(f"There is no schema `{kind}`.", next_step="Use `endpoint` or `model`.")
    return schemas[kind]()
