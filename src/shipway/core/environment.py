"""The lines of an environment lock, read as names and versions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from shipway.core.bundles import EnvironmentLock

_SEPARATORS = re.compile(r"[-_.]+")


def canonical_name(distribution: str) -> str:
    """The one spelling of a distribution's name (PEP 503): `Scikit_Learn` is `scikit-learn`."""
    return _SEPARATORS.sub("-", distribution).lower()


def pins_of(lock: EnvironmentLock) -> dict[str, str]:
    """The locked version by canonical distribution name."""
    pairs = (line.split("==", 1) for line in lock.requirements)
    return {canonical_name(name): version for name, version in pairs}


def lock_lines(pins: dict[str, str]) -> tuple[str, ...]:
    """The sorted `name==version` lines of a lock."""
    return tuple(f"{name}=={version}" for name, version in sorted(pins.items()))


def public_version(version: str) -> str:
    """The version without its local label (PEP 440): `2.13.0+cpu` is `2.13.0`.

    A local label means something only to the index that the build came from, so locks leave it out.
    """
    return version.partition("+")[0]


def without_comments(lines: Iterable[str]) -> tuple[str, ...]:
    """The requirement lines of a requirements text, without comments, options and empty lines."""
    stripped = (line.split(" #", 1)[0].strip() for line in lines)
    return tuple(line for line in stripped if line and not line.startswith(("#", "-")))
