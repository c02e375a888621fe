"""Byte code of installed packages, written before replicas start: confined, they cannot write it.

Without it every start of a replica would compile all that its model imports.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import cache_from_source
from pathlib import Path

_TIMEOUT_S = 600.0


def compile_missing(distributions: Iterable[str]) -> None:
    """Compiles those of our own interpreter's distributions that never were.

    Idempotent. May block for a minute. What cannot be written is left: it then only starts slower.
    """
    sources = [str(path) for name in distributions for path in _uncompiled(name)]
    if not sources:
        return
    command = [sys.executable, "-I", "-S", "-m", "compileall", "-q", "-i", "-"]
    subprocess.run(
        command,
        input="\n".join(sources).encode(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=_TIMEOUT_S,
        check=False,
    )


@cache
def _uncompiled(name: str) -> tuple[Path, ...]:
    """Its source files, when the first of each package has no byte code; asked once for each name."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return ()
    sources = tuple(_sources(found))
    entries = [path for path in sources if path.name == "__init__.py"] or list(sources)
    shallowest = min((len(path.parts) for path in entries), default=0)
    first = (path for path in entries if len(path.parts) == shallowest)
    return () if all(Path(cache_from_source(str(path))).exists() for path in first) else sources


def _sources(found: Distribution) -> Iterator[Path]:
    for file in found.files or ():
        if file.suffix == ".py":
            yield Path(str(found.locate_file(file)))
