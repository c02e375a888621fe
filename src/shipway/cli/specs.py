"""Endpoint specs and environments' policies in a YAML file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from shipway.bundles.documents import documents_of
from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import InvalidSpec
from shipway.core.policy import EnvironmentPolicy
from shipway.wire.policies import policy_of
from shipway.wire.specs import spec_of

_NEXT_STEP = "Give a YAML file with one {noun} per document; docs/reference/{page} has one."
T = TypeVar("T")


def specs_in(file: Path) -> list[EndpointSpec]:
    """The specs in a file (`-` is stdin): one per document, or lists of them.

    Raises:
        InvalidSpec: it cannot be read, is not YAML, holds no spec, or a spec is not valid.
    """
    return _declared(file, spec_of, noun="endpoint", page="endpoint-spec.md")


def policies_in(file: Path) -> list[EnvironmentPolicy]:
    """The policies in a file (`-` is stdin): one per document, or lists of them.

    Raises:
        InvalidSpec: it cannot be read, is not YAML, holds no policy, or a policy is not valid.
    """
    return _declared(file, policy_of, noun="environment", page="environment-policy.md")


def _declared(file: Path, read: Callable[..., T], *, noun: str, page: str) -> list[T]:
    next_step = _NEXT_STEP.format(noun=noun, page=page)
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text()
        documents = documents_of(text)
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidSpec(f"`{file}` cannot be read: {exc}.", next_step=next_step) from exc
    except ValueError as exc:
        raise InvalidSpec(f"`{file}` is not YAML: {exc}.", next_step=next_step) from exc
    flat = [item for doc in documents for item in (doc if isinstance(doc, list) else [doc])]
    given = [item for item in flat if item is not None]
    if not given:
        raise InvalidSpec(f"`{file}` holds no {noun}.", next_step=next_step)
    many = len(given) > 1
    return [
        read(item, source=f"{noun.capitalize()} {place} of `{file}`" if many else f"`{file}`")
        for place, item in enumerate(given, start=1)
    ]
