"""Endpoint specs in a YAML file."""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import InvalidSpec
from shipway.wire.specs import spec_of

_NEXT_STEP = (
    "Give a YAML file with one endpoint per document; docs/reference/endpoint-spec.md has one."
)


def specs_in(file: Path) -> list[EndpointSpec]:
    """The specs in a file (`-` is stdin): one per document, or lists of them.

    Raises:
        InvalidSpec: it cannot be read, is not YAML, holds no spec, or a spec is not valid.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = list(yaml.safe_load_all(text))
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSpec(f"`{file}` cannot be read: {exc}.", next_step=_NEXT_STEP) from exc
    except yaml.YAMLError as exc:
        place = " ".join(str(exc).split())
        raise InvalidSpec(f"`{file}` is not YAML: {place}.", next_step=_NEXT_STEP) from exc
    flat = [item for doc in documents for item in (doc if isinstance(doc, list) else [doc])]
    specs = [item for item in flat if item is not None]
    if not specs:
        raise InvalidSpec(f"`{file}` holds no endpoint.", next_step=_NEXT_STEP)
    many = len(specs) > 1
    return [
        spec_of(item, source=f"Endpoint {place} of `{file}`" if many else f"`{file}`")
        for place, item in enumerate(specs, start=1)
    ]
