"""Secrets by reference: where the value is, never the value. And which references may be used.

A reference is resolved on the machine where a replica starts, when it starts; everything else
(specs, database, snapshots, logs, errors, audit) holds the reference alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import msgspec

from shipway.core.errors import InvalidSpec

PROVIDERS = ("AWS_", "AZURE_", "GOOGLE_")
"""How the variables of cloud providers begin, by which control reaches the artifact store."""

OWN = ("SHIPWAY_", *PROVIDERS)
"""How the server's own variables begin: no endpoint may refer to one."""

OWN_PLACES = (
    *("/proc", "/sys", "/dev"),
    *("/run/secrets/kubernetes.io", "/var/run/secrets/kubernetes.io"),
)
"""Where no endpoint's secret may be: `/proc` shows control's variables, the last are its pod's identity."""

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{0,127}")
"""Upper case alone, so that a token written in place of a name is seldom taken for one."""

_LOADERS = ("LD_", "PYTHON", "SHIPWAY_", "OMP_")
_RESERVED = frozenset({"PATH", "HOME", "TMPDIR", "LANG"})


class SecretRef(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """Where a secret is. Exactly one is given."""

    env: str | None = None
    """An environment variable of the server."""

    file: str | None = None
    """An absolute path; one newline at the end of the file is not part of the secret."""

    def __str__(self) -> str:
        return f"env:{self.env}" if self.env is not None else f"file:{self.file}"


Secrets = tuple[tuple[str, SecretRef], ...]
"""Which variables a model's process gets, in name order, and where the value of each is."""


def in_order(secrets: Mapping[str, SecretRef]) -> Secrets:
    """The secrets of a spec, in name order."""
    return tuple(sorted(secrets.items(), key=lambda item: item[0]))


class SecretRules(msgspec.Struct, frozen=True, kw_only=True):
    """Which references endpoints may use: what a pattern of `allowed` covers and nothing of the server's own.

    A pattern is `env:NAME` or `file:/path`, where `*` stands for any characters of a name, and of one
    part of a path. `own_places` are files and directories that stay the server's own.
    """

    allowed: tuple[str, ...] = ()
    own_places: tuple[str, ...] = OWN_PLACES

    def objection(self, reference: SecretRef) -> str:
        """Why it may not be used; empty when it may."""
        if self.is_own(reference):
            return "the server's own secrets are not for models"
        if not any(_covers(pattern, reference) for pattern in self.allowed):
            return "`SHIPWAY_ALLOWED_SECRETS` does not cover it"
        return ""

    def is_own(self, reference: SecretRef) -> bool:
        """Whether it is the server's own, whatever a pattern covers."""
        if reference.env is not None:
            return reference.env.startswith(OWN) or _starts_a_process(reference.env)
        path = PurePosixPath(reference.file or "/")
        return any(path.is_relative_to(place) for place in self.own_places)

    def covers_variable(self, name: str) -> bool:
        """Whether an environment variable may be a model's secret."""
        return not self.objection(SecretRef(env=name))

    def require_allowed(self, secrets: Mapping[str, SecretRef]) -> None:
        """Refuses references that may not be used.

        Raises:
            InvalidSpec: one may not; the variable and the reference are named.
        """
        for name, reference in secrets.items():
            objection = self.objection(reference)
            if objection:
                raise InvalidSpec(
                    f"Secret `{name}` may not be `{reference}`: {objection}.",
                    next_step="Ask who runs the server to add it to `SHIPWAY_ALLOWED_SECRETS`, or use"
                    " another reference.",
                    name=name,
                    reference=str(reference),
                )


NONE_ALLOWED = SecretRules()
"""The rules of a server that lets endpoints have no secrets."""


def _covers(pattern: str, reference: SecretRef) -> bool:
    kind, _, name = pattern.partition(":")
    if reference.env is not None:
        return kind == "env" and fnmatchcase(reference.env, name)
    # Part by part: `/run/secrets/*` covers no directory below.
    return kind == "file" and PurePosixPath(reference.file or "/").match(name)


def require_references(secrets: Mapping[str, SecretRef], *, source: str) -> None:
    """Refuses what is no reference: a value in its place, a path that climbs, a name that is taken.

    Nothing that could be a value is quoted.

    Raises:
        InvalidSpec: one is not; the variable is named.
    """
    for name, reference in secrets.items():
        problem = _problem_of_name(name) or _problem_of(reference)
        if problem:
            raise InvalidSpec(
                f"{source} has the secret `{name}` with {problem}."
                if _VARIABLE.fullmatch(name)
                else f"{source} has a secret with {problem}.",
                next_step="Write `NAME: {env: VARIABLE}` or `NAME: {file: /run/secrets/name}`, and put"
                " the value there.",
                path="secrets",
            )


def _starts_a_process(name: str) -> bool:
    """Whether a variable says how a process starts: no secret, and no place for one."""
    return name in _RESERVED or name.startswith(_LOADERS)


def _problem_of_name(name: str) -> str:
    if not _VARIABLE.fullmatch(name):
        return "a name that is not of `A-Z 0-9 _`, as environment variables are"
    if _starts_a_process(name):
        return "a name that would change how the model's process starts"
    return ""


def _problem_of(reference: SecretRef) -> str:
    if (reference.env is None) == (reference.file is None):
        return "not exactly one of `env` and `file`"
    if reference.env is not None:
        if _VARIABLE.fullmatch(reference.env):
            return ""
        return "an `env` that is no variable's name of `A-Z 0-9 _`"
    path = PurePosixPath(reference.file or "")
    # POSIX gives two slashes at the beginning a meaning of their own, and so does PurePosixPath.
    is_short = str(path) == reference.file and not reference.file.startswith("//")
    if not path.is_absolute() or ".." in path.parts or not is_short:
        return "a `file` that is no absolute path, or not in its shortest form"
    return ""
