"""References to model versions, as people write them: `churn:2`, `churn@champion`, `churn`."""

from __future__ import annotations

import re

import msgspec

from shipway.core.errors import InvalidSpec

NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
"""Names of models, endpoints, aliases and environments: lower case, at most 63 characters."""


MOST_DIGITS = 9
"""Of a version's number; what databases and `int` refuse is far beyond."""


def checked_name(name: str, *, kind: str) -> str:
    """The `name` itself, once it is known to be well formed.

    Raises:
        InvalidSpec: it has other characters than a-z 0-9 . _ - or is too long.
    """
    if NAME.fullmatch(name) is None or ".." in name:
        raise InvalidSpec(
            f"`{name}` is not a valid {kind} name.",
            next_step="Use 1 to 63 of a-z, 0-9, `.`, `_`, `-`, with a letter or digit at both ends.",
        )
    return name


class VersionRef(msgspec.Struct, frozen=True, order=True):
    """A numbered version of a model; prints as `churn:2`."""

    model: str
    number: int

    def __str__(self) -> str:
        return f"{self.model}:{self.number}"


class VersionQuery(msgspec.Struct, frozen=True):
    """What a person wrote: a number, an alias, or neither (the newest version)."""

    model: str
    number: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.model}@{self.alias}"
        return self.model if self.number is None else f"{self.model}:{self.number}"


def parse_version(text: str) -> VersionQuery:
    """Reads `churn:2`, `churn@champion` or `churn`.

    Raises:
        InvalidSpec: the text is none of these.
    """
    model, colon, number = text.partition(":")
    if colon:
        is_number = number.isascii() and number.isdigit() and len(number) <= MOST_DIGITS
        if not is_number or number.startswith("0"):
            raise InvalidSpec(
                f"`{text}` has no valid version number after the colon.",
                next_step="Write `model:2`, `model@alias` or `model`.",
            )
        return VersionQuery(checked_name(model, kind="model"), number=int(number))
    model, at, alias = text.partition("@")
    checked_name(model, kind="model")
    if at:
        return VersionQuery(model, alias=checked_name(alias, kind="alias"))
    return VersionQuery(model)
