"""What an endpoint declares to be kept of its predictions, and under which rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from shipway.core.captures import Shape
from shipway.core.errors import InvalidSpec
from shipway.core.signature import Field, Signature
from shipway.core.strategies import Share, Source
from shipway.core.tensors import DataType

CREDENTIALS = ("authorization", "proxy-authorization", "x-api-key", "cookie")
"""Headers that open doors: they are written nowhere."""


class How(StrEnum):
    """What becomes of a field's values."""

    DROP = "drop"
    """Nothing is kept."""

    HASH = "hash"
    """A keyed hash: equal values stay equal, and without the key nobody can try values out."""

    MASK = "mask"
    """The last characters of a text, the last digits of a whole number."""


class Redact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What becomes of one field."""

    field: str
    """An input or output; `payload.customer.email` is a place in the JSON that text field `payload` holds."""

    how: How = How.DROP
    """What becomes of its values; dropped when left out. Nulls stay nulls."""

    keep: Annotated[int, msgspec.Meta(ge=0, le=8)] = 4
    """With `mask`, so many characters or digits are kept; nothing of values not twice as long."""


class Durability(StrEnum):
    """When a prediction is safe on the gateway's disk."""

    BUFFERED = "buffered"
    """Within seconds. Callers never wait; what a killed gateway had not written yet is lost, and what a
    full disk does not take is lost and counted."""

    SYNCED = "synced"
    """Before its answer leaves: written and flushed (fdatasync), together with those that came at the same
    time. What cannot be recorded is answered with 503."""


class Reading(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where in a request a text is that its prediction is found by."""

    by: Source = Source.HEADER
    """Where it is: `header`, `claim`, `json_path`, `input` or `key`, as for sticky rollouts. An API key is
    kept as a keyed hash."""

    name: str = ""
    """The header, claim, path or input; not used with `key`."""


class Capture(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is kept of an endpoint's predictions: all of them with `capture: {}`, none without `capture`."""

    share_pct: Share = 100.0
    """The share of requests that is kept. A request's id decides, the same in every gateway."""

    fields: tuple[str, ...] | None = None
    """The inputs and outputs that are kept; all when left out."""

    durability: Durability = Durability.BUFFERED
    """`buffered`, or `synced`: an answer leaves only once its prediction is on disk."""

    keep_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] = 30
    """Predictions are deleted after so many days."""

    key: Reading | None = None
    """The business key of a request (a customer, an order), by which feedback may find it."""

    segment: Reading | None = None
    """The group that a request is counted in (a country, a channel)."""

    redact: tuple[str | Redact, ...] = ()
    """Rules, the name alone for a field to drop. They hold for predictions, and for the examples, labels and
    errors that a rollout keeps; answers that Valkey would hold stay in each gateway's memory; and what the
    model raises is logged without its message."""

    @property
    def rules(self) -> tuple[Redact, ...]:
        """All of them spelled out."""
        return tuple(
            rule if isinstance(rule, Redact) else Redact(field=rule) for rule in self.redact
        )

    @property
    def hashes(self) -> bool:
        """Whether the installation's key may be needed: for redacted fields, or for API keys."""
        readings = (self.key, self.segment)
        return bool(self.redact) or any(r is not None and r.by is Source.KEY for r in readings)


def require_fields(capture: Capture | None, signature: Signature) -> None:
    """Refuses what would match nothing, so that a typing error does not keep what it should not.

    Raises:
        InvalidSpec: a field is none of the signature's, is named twice, or is inside one that holds no
            text; a key or segment names nothing, a credential, or an input that is dropped.
    """
    if capture is None:
        return
    fields = {field.name: field.dtype for field in (*signature.inputs, *signature.outputs)}
    _require_rules(capture.rules, fields)
    _require_kept(capture.fields or (), fields)
    for reading, path in ((capture.key, "capture.key"), (capture.segment, "capture.segment")):
        if reading is not None:
            _require_reading(reading, capture, signature.input_names(), path=path)


def kept_shape(capture: Capture, shape: Shape) -> Shape:
    """The shape of predictions with what is not kept left out, and what is hashed as texts."""
    return msgspec.structs.replace(
        shape,
        inputs=tuple(_kept(capture, shape.inputs)),
        outputs=tuple(_kept(capture, shape.outputs)),
    )


def _kept(capture: Capture, fields: Sequence[Field]) -> Iterator[Field]:
    how = {rule.field: rule.how for rule in capture.rules}
    for field in fields:
        if capture.fields is not None and field.name not in capture.fields:
            continue
        match how.get(field.name):
            case How.DROP:
                continue
            case How.HASH:
                shape = field.shape if all(size == 1 for size in field.shape[1:]) else (-1,)
                yield Field(name=field.name, dtype=DataType.STRING, shape=shape, nullable=True)
            case _:
                yield field


def _require_rules(rules: Sequence[Redact], fields: Mapping[str, DataType]) -> None:
    seen: set[str] = set()
    for rule in rules:
        holder = _holder(rule.field, fields)
        if holder is None:
            raise _unknown(rule.field, fields, path="capture.redact")
        if holder != rule.field and fields[holder] not in (DataType.STRING, DataType.BYTES):
            fact = f"`{holder}` holds no text that `{rule.field}` could be in."
            raise _invalid(fact, fields, path="capture.redact")
        if rule.field in seen:
            raise _invalid(f"`{rule.field}` has two rules.", fields, path="capture.redact")
        seen.add(rule.field)


def _require_kept(names: Sequence[str], fields: Mapping[str, Any]) -> None:
    for place, name in enumerate(names):
        if name not in fields:
            raise _unknown(name, fields, path="capture.fields")
        if name in names[:place]:
            raise _invalid(f"`{name}` is named twice.", fields, path="capture.fields")


def _require_reading(
    reading: Reading, capture: Capture, inputs: Sequence[str], *, path: str
) -> None:
    if reading.by is Source.KEY:
        return
    if not reading.name:
        raise _invalid(f"`name` says which {reading.by.value}, and is empty.", inputs, path=path)
    if reading.by is Source.HEADER and reading.name.lower() in CREDENTIALS:
        raise _invalid(f"`{reading.name}` holds a credential; use `by: key`.", inputs, path=path)
    if reading.by is not Source.INPUT:
        return
    if reading.name not in inputs:
        raise _unknown(reading.name, dict.fromkeys(inputs), path=path)
    if any(rule.field == reading.name and rule.how is How.DROP for rule in capture.rules):
        fact = f"`{reading.name}` is dropped by `capture.redact`; hash it, or name another."
        raise _invalid(fact, inputs, path=path)


def _holder(field: str, names: Mapping[str, Any]) -> str | None:
    """The input or output that a rule is about: its name, else the longest that its path begins with."""
    parts = field.split(".")
    heads = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((head for head in heads if head in names), None)


def _unknown(name: str, names: Mapping[str, Any], *, path: str) -> InvalidSpec:
    near = get_close_matches(name, names, n=1, cutoff=0.4)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    return _invalid(f"there is no input or output `{name}`.{hint}", names, path=path)


def _invalid(fact: str, names: Mapping[str, Any] | Sequence[str], *, path: str) -> InvalidSpec:
    shown = ", ".join(f"`{name}`" for name in list(names)[:20])
    return InvalidSpec(f"`{path}`: {fact}", next_step=f"The fields are: {shown}.", path=path)
