"""The environment lock: exact versions of what a model needs, read off where it was packaged."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import Distribution, distributions, packages_distributions
from pathlib import Path

import uv
from packaging.requirements import InvalidRequirement, Requirement

from shipway.core.bundles import EnvironmentLock
from shipway.core.environment import (
    canonical_name,
    lock_lines,
    pins_of,
    public_version,
    resolution_of,
    without_comments,
    without_unneeded,
)
from shipway.core.errors import EnvironmentFailed, InvalidSpec

_ALWAYS = ("msgspec", "numpy")
"""What a replica itself imports."""

_OURS = "shipway"
_TIMEOUT_S = 60.0
# One retry: without a network, packaging falls back to what is installed after seconds, not minutes.
_UV_SETTINGS = {"UV_HTTP_RETRIES": "1", "UV_HTTP_TIMEOUT": "10"}


class _CannotResolve(Exception):
    """uv gave no answer; the message is the end of its words."""


def lock_environment(modules: Iterable[str], declared: Sequence[str] = ()) -> EnvironmentLock:
    """The lock of everything that provides these top-level modules, with all it depends on.

    Versions are the installed ones, without local labels such as `+cpu`. `declared` requirement
    lines win over them; what is installed is then only preferred. Modules of the standard library
    and of no installed distribution (a person's own code) are left out, and so is Shipway, which
    replicas get in another way. Reads package indexes through uv, at most a minute.

    Raises:
        InvalidSpec: a declared line is no requirement, or names a URL or a path.
        EnvironmentFailed: the declared lines differ from what is installed, and uv cannot resolve
            them.
    """
    wanted = [_requirement(line) for line in without_comments(declared)]
    installed = {canonical_name(found.name): found for found in distributions() if found.name}
    roots = [*_providers(modules, installed), *(Requirement(name) for name in _ALWAYS), *wanted]
    pins = _closure(roots, installed)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    if _are_installed(wanted, installed):
        return EnvironmentLock(python=python, requirements=lock_lines(pins))
    present = {name: public_version(found.version) for name, found in installed.items()}
    resolved = _resolved(roots, prefer=pins, present=present)
    return EnvironmentLock(python=python, requirements=lock_lines(resolved))


def overriding(own: Iterable[str], declared: Sequence[str]) -> tuple[str, ...]:
    """An artifact's own requirement lines, with those of a person in place of the same package's.

    Raises:
        InvalidSpec: a line is no requirement.
    """
    named = {canonical_name(_requirement(line).name) for line in without_comments(declared)}
    kept = [
        line
        for line in without_comments(own)
        if canonical_name(_requirement(line).name) not in named
    ]
    return (*kept, *without_comments(declared))


def _requirement(line: str) -> Requirement:
    try:
        requirement = Requirement(line)
    except InvalidRequirement as exc:
        raise InvalidSpec(
            f"`{line}` is not a requirement: {str(exc).partition(chr(10))[0]}.",
            next_step="Write `name==1.2.3`.",
        ) from exc
    if requirement.url is not None:
        raise InvalidSpec(
            f"Requirement `{requirement.name}` names a URL, which a lock cannot hold.",
            next_step="Write `name==1.2.3`, and configure uv with the index that has it.",
        )
    return requirement


def _providers(
    modules: Iterable[str], installed: Mapping[str, Distribution]
) -> Iterable[Requirement]:
    providers = packages_distributions()
    names = {canonical_name(name) for module in modules for name in providers.get(module, ())}
    return [Requirement(name) for name in sorted(names & installed.keys() - {_OURS})]


def _closure(roots: Iterable[Requirement], installed: Mapping[str, Distribution]) -> dict[str, str]:
    """The installed versions of the roots and of all they require, with their extras."""
    pins: dict[str, str] = {}
    done: set[tuple[str, str]] = set()
    waiting = list(roots)
    while waiting:
        requirement = waiting.pop()
        name = canonical_name(requirement.name)
        found = installed.get(name)
        if found is None or name == _OURS:
            continue
        pins[name] = public_version(found.version)
        for extra in {"", *requirement.extras} - {known for one, known in done if one == name}:
            done.add((name, extra))
            waiting += _required_by(found, extra=extra)
    return pins


def _required_by(found: Distribution, *, extra: str) -> list[Requirement]:
    needs = [Requirement(line) for line in found.requires or ()]
    return [need for need in needs if need.marker is None or need.marker.evaluate({"extra": extra})]


def _are_installed(wanted: Iterable[Requirement], installed: Mapping[str, Distribution]) -> bool:
    found = ((need, installed.get(canonical_name(need.name))) for need in _applicable(wanted))
    return all(
        one is not None and need.specifier.contains(one.version, prereleases=True)
        for need, one in found
    )


def _applicable(wanted: Iterable[Requirement]) -> Iterable[Requirement]:
    return (need for need in wanted if need.marker is None or need.marker.evaluate())


def is_confirmed(lock: EnvironmentLock) -> bool:
    """Whether uv resolves exactly these pins to themselves; False without an index, too.

    An index may list more than is installed, such as the GPU libraries of a CPU build; the installed
    environment is the proof that the model runs without them.
    """
    pins = pins_of(lock)
    try:
        resolved, _ = _compile(
            [f"{name}=={version}" for name, version in pins.items()], prefer=pins
        )
    except _CannotResolve:
        return False
    return pins.items() <= resolved.items()


def _resolved(
    roots: Iterable[Requirement], *, prefer: Mapping[str, str], present: Mapping[str, str]
) -> dict[str, str]:
    try:
        pins, requirers = _compile([str(root) for root in roots], prefer=prefer)
    except _CannotResolve as exc:
        raise EnvironmentFailed(
            f"The declared requirements cannot be resolved: {exc}",
            next_step="Change the `requirements` lines, or package where they are installed.",
        ) from exc
    return without_unneeded(pins, requirers, present)


def _compile(
    lines: Sequence[str], *, prefer: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    with tempfile.TemporaryDirectory(prefix="shipway-lock-") as directory:
        output = Path(directory, "environment.lock")
        # uv keeps the versions that its output file already holds, as far as it can.
        output.write_text("\n".join(lock_lines(dict(prefer))) + "\n")
        _run_uv(lines, output=output)
        return resolution_of(output.read_text())


def _run_uv(lines: Sequence[str], *, output: Path) -> None:
    command = [uv.find_uv_bin(), "pip", "compile", "-", "--output-file", str(output), "--quiet"]
    command += ["--python", sys.executable, "--no-header", "--no-build"]
    command += ["--no-emit-index-url", "--annotation-style", "line"]
    try:
        done = subprocess.run(
            command,
            input="\n".join(lines),
            env={**os.environ, **_UV_SETTINGS},
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise _CannotResolve(f"{type(exc).__name__}: {exc}") from exc
    if done.returncode != 0:
        raise _CannotResolve(" ".join(done.stderr.split())[-600:])
