"""What changed between two bundles: dependencies, signature, config, metrics and files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from shipway.core.bundles import Manifest
from shipway.core.signature import Field


class Section(StrEnum):
    """What part of a bundle a difference is in."""

    DEPENDENCIES = "dependencies"
    INPUTS = "inputs"
    OUTPUTS = "outputs"
    CONFIG = "config"
    METRICS = "metrics"
    FILES = "files"


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. `before` or `after` is None when the thing is only on the other side.

    By section, `name` and the values are: a package (or `python`) and its versions; an input or
    output and its attributes, of a changed one only those that differ; a setting and its values;
    a metric and its numbers; a path and its SHA-256.
    """

    section: Section
    name: str
    before: Any = None
    after: Any = None


def differences(before: Manifest, after: Manifest) -> tuple[Difference, ...]:
    """All differences from one manifest to the other, by section, then name."""
    old, new = _facts(before), _facts(after)
    return tuple(difference for section in Section for difference in _compare(section, old, new))


_Facts = Mapping[Section, Mapping[str, Any]]


def _facts(manifest: Manifest) -> _Facts:
    signature = manifest.content.signature
    return {
        Section.DEPENDENCIES: _dependencies(manifest),
        Section.INPUTS: _fields(signature.inputs),
        Section.OUTPUTS: _fields(signature.outputs),
        Section.CONFIG: _config(manifest),
        Section.METRICS: manifest.provenance.metrics,
        Section.FILES: {file.path: file.sha256 for file in manifest.content.files},
    }


def _compare(section: Section, old: _Facts, new: _Facts) -> Iterator[Difference]:
    names = sorted(old[section].keys() | new[section].keys())
    for name in names:
        before, after = old[section].get(name), new[section].get(name)
        if before != after:
            before, after = _narrowed(before, after)
            yield Difference(section=section, name=name, before=before, after=after)


def _narrowed(before: Any, after: Any) -> tuple[Any, Any]:
    """Of two mappings only the members that differ; other values as they are."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return before, after
    names = [key for key in before | after if before.get(key) != after.get(key)]
    return {key: before.get(key) for key in names}, {key: after.get(key) for key in names}


def _dependencies(manifest: Manifest) -> dict[str, str]:
    lock = manifest.content.environment
    pins = (line.partition("==") for line in lock.requirements)
    return {name.strip(): version.strip() for name, _, version in pins} | {"python": lock.python}


def _config(manifest: Manifest) -> dict[str, Any]:
    content = manifest.content
    options = {f"options.{name}": value for name, value in content.options.items()}
    form = {
        "format": content.format.value,
        "served": content.served.value,
        "layout": content.signature.layout.value,
        "classes": list(content.classes) if content.classes is not None else None,
    }
    return {**form, **msgspec.to_builtins(content.config), **options}


def _fields(fields: Iterable[Field]) -> dict[str, dict[str, Any]]:
    return {
        field.name: {
            name: msgspec.to_builtins(getattr(field, name))
            for name in field.__struct_fields__
            if name != "name"
        }
        for field in fields
    }
