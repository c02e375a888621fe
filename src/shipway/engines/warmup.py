"""The first calls of a freshly loaded model, made before anybody waits for them."""

from __future__ import annotations

from pathlib import Path

from shipway.core.bundles import Content
from shipway.core.validation import compile_validator
from shipway.engines.port import Engine
from shipway.wire.open_inference import decode_request


def warm(engine: Engine, directory: Path, content: Content) -> None:
    """Runs the bundle's own examples once, when it has any.

    Raises whatever the model raises on its own examples: such a model must not go live.
    """
    if content.examples is None:
        return
    request = decode_request((directory / content.examples).read_bytes())
    engine.run(compile_validator(content.signature)(request.inputs))
