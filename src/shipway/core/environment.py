"""The lines of an environment lock, read as names and versions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

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


def resolution_of(text: str) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Versions, and who requires each package, of uv's listing with annotations at line ends.

    `jinja2==3.1.6  # via flask, torch` gives the version 3.1.6 and the names flask and torch.
    """
    pins: dict[str, str] = {}
    requirers: dict[str, frozenset[str]] = {}
    for line in text.splitlines():
        pin, _, via = line.partition("# via ")
        if "==" not in pin or pin.startswith("#"):
            continue
        name, _, version = pin.partition("==")
        key = canonical_name(name.strip())
        pins[key] = public_version(version.partition(";")[0].strip())
        requirers[key] = frozenset(canonical_name(one.strip()) for one in via.split(",") if one)
    return pins, requirers


def without_unneeded(
    pins: Mapping[str, str], requirers: Mapping[str, frozenset[str]], installed: Mapping[str, str]
) -> dict[str, str]:
    """The pins without what an installed package is listed to require and runs without.

    A CPU build of torch lists the GPU libraries of the other builds. A package goes away when it is
    not installed, and all that require it are installed at the pinned version or go away too.
    """
    kept = dict(pins)
    while True:
        idle = [
            name
            for name in kept
            if name not in installed
            and requirers[name]
            and all(one not in kept or installed.get(one) == kept[one] for one in requirers[name])
        ]
        if not idle:
            return kept
        for name in idle:
            del kept[name]
