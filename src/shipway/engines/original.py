"""The engine of an original artifact, by its format. Each framework is imported when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from shipway.core.bundles import Format
from shipway.engines.port import Engine

Options = Mapping[str, Any]


def original_engine(
    path: Path, kind: Format, *, options: Options | None = None, threads: int = 1
) -> Engine:
    """The engine of the artifact at `path`; `options` are those of the manifest."""
    return _LOADERS[kind](path, options or {}, threads)


def _sklearn(path: Path, options: Options, threads: int) -> Engine:
    from shipway.engines.sklearn import SklearnEngine, load_pickled

    return SklearnEngine(load_pickled(path))


_LOADERS: dict[Format, Callable[[Path, Options, int], Engine]] = {
    Format.SKLEARN: _sklearn,
}
