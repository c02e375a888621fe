"""Fields of requests and answers that are dropped, hashed or masked before anything of them is written.

Callers get their answers whole: this is about what is kept. Values are columns and tensors by name, or
JSON. A rule names an input or output, or with dots a place inside the JSON that a text field holds.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Mapping
from math import isfinite, isnan
from typing import Any

import msgspec
import numpy as np

from shipway.core.capturing import Capture, How, Redact
from shipway.core.errors import ShipwayError
from shipway.core.summaries import Summary
from shipway.core.tensors import Array

TOKEN_CHARACTERS = 32
"""Of a hash's 64: two values of 2**64 get the same one by chance."""

STARS = "****"
_EXACT = 2**53


class Redaction:
    """The rules of one endpoint, ready to be applied. Immutable, without I/O."""

    def __init__(self, capture: Capture | None, key: bytes) -> None:
        """`key` is the installation's own, of at least 16 bytes; hashes by another one do not match."""
        self._key = key
        rules = () if capture is None else capture.rules
        self._whole = {rule.field: rule for rule in rules}
        self.is_on = bool(rules)

    def arrays(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs or outputs as they may be written; what has no rule is the same array.

        A hashed array is one of texts; of a tensor with more than a value in each row, one text per row.
        """
        kept: dict[str, Array] = {}
        for name, array in arrays.items():
            rule = self._whole.get(name)
            if rule is None:
                kept[name] = self._inside_texts(name, array)
            elif rule.how is How.HASH:
                kept[name] = self._hashed(array)
            elif rule.how is How.MASK:
                kept[name] = _masked_array(array, rule.keep)
        return kept

    def values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The same for JSON values by name, to any depth; lists are looked through."""
        kept: dict[str, Any] = {}
        for name, value in values.items():
            rule = self._whole.get(name)
            if rule is None:
                kept[name] = self._inside(name, value)
            elif rule.how is not How.DROP:
                kept[name] = self._leaves(value, rule)
        return kept

    def error(self, error: ShipwayError) -> ShipwayError:
        """The error with a message that quotes no value: of an endpoint with rules, any may be in it."""
        if not self.is_on:
            return error
        column, rule = error.details.get("column"), error.details.get("rule")
        named = f"Column `{column}` breaks the rule `{rule}`." if column and rule else ""
        return type(error)(named or "Its message is not kept: `capture.redact` is on.")

    def summary(self, summary: Summary, *, label_of: str) -> Summary:
        """The summary, its label hashed where a rule is about the output that it is from.

        Hashed whatever the rule says: the labels of two versions are compared.
        """
        if summary.label is None or label_of not in self._whole:
            return summary
        return summary._replace(label=self.token(summary.label))

    def token(self, value: Any) -> str | None:
        """HMAC-SHA-256 of a value, cut to 32 hexadecimal characters; None of a null.

        Equal numbers have one token whatever their type, and the text `5` has that of the number 5.
        """
        canonical = _canonical(value)
        return None if canonical is None else self._token(canonical)

    def _token(self, canonical: bytes) -> str:
        return hmac.digest(self._key, canonical, "sha256").hex()[:TOKEN_CHARACTERS]

    def _hashed(self, array: Array) -> Array:
        if array.ndim > 1 and array.size != len(array):
            items: list[Any] = [_row_bytes(row) for row in array]
            shape: tuple[int, ...] = (len(array),)
        else:
            items, shape = array.ravel().tolist(), array.shape
        known: dict[bytes | None, str | None] = {None: None}
        tokens = np.empty(len(items), dtype=object)
        for place, item in enumerate(items):
            canonical = _canonical(item)
            if canonical is not None and canonical not in known:
                known[canonical] = self._token(canonical)
            tokens[place] = known[canonical]
        return tokens.reshape(shape)

    def _inside_texts(self, name: str, array: Array) -> Array:
        """The texts with the places inside them redacted; null for one that is no JSON object or list."""
        if array.dtype.kind not in "OSU" or not self._rules_below(name):
            return array
        return _each(array, lambda text: self._inside_text(name, text))

    def _inside_text(self, name: str, text: Any) -> Any:
        try:
            found = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError, TypeError, UnicodeError):
            return None
        if not isinstance(found, dict | list):
            return None
        encoded = msgspec.json.encode(self._inside(name, found))
        return encoded if isinstance(text, bytes) else encoded.decode()

    def _rules_below(self, name: str) -> list[Redact]:
        return [rule for field, rule in self._whole.items() if field.startswith(f"{name}.")]

    def _inside(self, place: str, value: Any) -> Any:
        if not self.is_on or not isinstance(value, dict | list) or not self._rules_below(place):
            return value
        if isinstance(value, list):
            return [self._inside(place, item) for item in value]
        named = self.values({f"{place}.{key}": item for key, item in value.items()})
        return {name.removeprefix(f"{place}."): item for name, item in named.items()}

    def _leaves(self, value: Any, rule: Redact) -> Any:
        if isinstance(value, dict):
            return {key: self._leaves(item, rule) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._leaves(item, rule) for item in value]
        return self.token(value) if rule.how is How.HASH else _masked_value(value, rule.keep)


NOTHING = Redaction(None, b"")
"""The redaction of an endpoint without rules."""


def _canonical(value: Any) -> bytes | None:
    """The bytes that are hashed: of equal values the same."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, float):
        if isnan(value):
            return None
        is_whole = isfinite(value) and value.is_integer() and abs(value) < _EXACT
        return (str(int(value)) if is_whole else repr(value)).encode()
    return str(value).encode("utf-8", "surrogatepass")


def _row_bytes(row: Array) -> bytes:
    if row.dtype.kind not in "OSU":
        return (
            row.dtype.newbyteorder("<").str.encode()
            + row.astype(row.dtype.newbyteorder("<")).tobytes()
        )
    return msgspec.json.encode([_canonical(item) for item in row.ravel().tolist()])


def _each(array: Array, change: Callable[[Any], Any]) -> Array:
    """An array of objects of the same shape, with what `change` makes of each that is no null."""
    made = np.empty(array.size, dtype=object)
    for place, item in enumerate(array.ravel().tolist()):
        made[place] = None if item is None else change(item)
    return made.reshape(array.shape)


def _masked_array(array: Array, keep: int) -> Array:
    if array.dtype.kind in "OSU":
        return _each(array, lambda item: _masked_value(item, keep))
    if array.dtype.kind == "b":
        return np.zeros_like(array)
    if array.dtype.kind == "f":
        whole = np.trunc(np.abs(array.astype(np.float64)))
        with np.errstate(invalid="ignore"):
            last = np.fmod(whole, float(10**keep))
        return np.where(whole < 10 ** (2 * keep - 1), 0.0, last).astype(array.dtype)
    # Wide enough for the divisor; the smallest integer has no absolute value before the division.
    wide = array.astype(np.uint64 if array.dtype.kind == "u" else np.int64)
    last = np.abs(np.fmod(wide, wide.dtype.type(10**keep)))
    bound = 10 ** (2 * keep - 1) if keep else 1
    is_long = (wide >= bound) | (wide <= -bound)
    return np.where(is_long, last, 0).astype(array.dtype)


def _masked_value(value: Any, keep: int) -> Any:
    """A text with its end, a number with its last digits; nothing of what is not twice as long."""
    if isinstance(value, str):
        return STARS + (value[-keep:] if 0 < keep <= len(value) // 2 else "")
    if isinstance(value, bytes):
        return STARS.encode() + (value[-keep:] if 0 < keep <= len(value) // 2 else b"")
    if value is None:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) % 10**keep if len(str(abs(value))) >= 2 * keep else 0
    if isinstance(value, float):
        return float(_masked_array(np.array([value]), keep)[0])
    return None
