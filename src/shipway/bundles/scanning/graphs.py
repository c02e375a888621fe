"""ONNX models, read as protobuf messages: where their data lies, and whose operators they use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import IO, NamedTuple

from shipway.bundles.scanning.source import Ended
from shipway.core.registry import is_inside
from shipway.core.scans import Danger

STANDARD_DOMAINS = frozenset(
    {"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training", "com.microsoft"}
)
"""Operators that ONNX Runtime brings itself."""

_OUTSIDE_OPERATORS = frozenset({"EPContext", "PythonOp", "PythonOpGrad", "ExternalNode"})
"""Of these domains, the ones that load or call something else."""

MOST_DEPTH = 48
MOST_FIELDS = 20_000_000
MOST_BYTES = 2 * 1024**3
"""What one protobuf message may have."""

_MOST_TEXT = 4096
_EXTERNAL = 1
_VARINT, _BYTES = 0, 2
_FIXED = {1: 8, 5: 4}
"""Wire types of protobuf; the fixed ones with their sizes."""


class Kind(Enum):
    """The messages of onnx.proto that are looked into."""

    MODEL = "model"
    GRAPH = "graph"
    NODE = "node"
    ATTRIBUTE = "attribute"
    TENSOR = "tensor"
    SPARSE = "sparse tensor"
    FUNCTION = "function"
    TRAINING = "training"
    ENTRY = "entry"


_INNER: Mapping[Kind, Mapping[int, Kind]] = {
    Kind.MODEL: {7: Kind.GRAPH, 20: Kind.TRAINING, 25: Kind.FUNCTION},
    Kind.GRAPH: {1: Kind.NODE, 5: Kind.TENSOR, 15: Kind.SPARSE},
    Kind.NODE: {5: Kind.ATTRIBUTE},
    Kind.ATTRIBUTE: {
        5: Kind.TENSOR,
        6: Kind.GRAPH,
        10: Kind.TENSOR,
        11: Kind.GRAPH,
        22: Kind.SPARSE,
        23: Kind.SPARSE,
    },
    Kind.TENSOR: {13: Kind.ENTRY},
    Kind.SPARSE: {1: Kind.TENSOR, 2: Kind.TENSOR},
    Kind.FUNCTION: {7: Kind.NODE, 11: Kind.ATTRIBUTE},
    Kind.TRAINING: {1: Kind.GRAPH, 2: Kind.GRAPH},
    Kind.ENTRY: {},
}
_TEXTS: Mapping[Kind, Mapping[int, str]] = {
    Kind.NODE: {4: "operator", 7: "domain"},
    Kind.FUNCTION: {1: "operator", 10: "domain"},
    Kind.ENTRY: {1: "key", 2: "value"},
}
_DATA_LOCATION = 14


class Refused(Exception):
    """A graph that is not let in."""

    def __init__(self, danger: Danger, position: int, message: str, *, name: str = "") -> None:
        super().__init__(message)
        self.danger = danger
        self.position = position
        self.name = name


class _Open(NamedTuple):
    """A message whose fields are being read."""

    kind: Kind
    end: int
    texts: dict[str, list[str]]


class GraphScan:
    """Reads one model. `siblings` are the sizes of the bundle's files beside it, by relative path."""

    def __init__(
        self, file: IO[bytes], size: int, *, siblings: Mapping[str, int], domains: frozenset[str]
    ) -> None:
        self._file = file
        self._size = size
        self._siblings = siblings
        self._domains = STANDARD_DOMAINS | domains
        self._used: dict[tuple[str, str], int] = {}
        self._defined = set[tuple[str, str]]()
        self._entries: dict[str, str] = {}
        self._fields = 0

    def run(self) -> None:
        """Reads it to its end.

        Raises:
            Refused: data lies outside, an operator is not allowed, or it cannot be read.
        """
        if self._size > MOST_BYTES:
            raise Refused(Danger.BOMB, 0, "is larger than a protobuf message may be")
        try:
            self._messages()
        except Ended as exc:
            raise Refused(Danger.UNREADABLE, self._file.tell(), str(exc)) from exc
        for (domain, operator), position in self._used.items():
            self._check_operator(domain, operator, position)

    def _messages(self) -> None:
        open_now = [_Open(Kind.MODEL, self._size, {})]
        while open_now:
            message = open_now[-1]
            position = self._file.tell()
            if position >= message.end:
                self._closed(open_now.pop(), position)
                continue
            inner = self._field(message)
            if inner is not None:
                open_now.append(inner)
                if len(open_now) > MOST_DEPTH:
                    raise Refused(Danger.BOMB, position, "is nested too deeply")

    def _field(self, message: _Open) -> _Open | None:
        """Reads one field; the message in it, when that is looked into."""
        self._fields += 1
        if self._fields > MOST_FIELDS:
            raise Refused(Danger.BOMB, self._file.tell(), "has too many fields")
        tag = self._varint()
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Ended(f"a {message.kind.value} has a field without a number")
        if wire == _VARINT:
            self._number(message, number, self._varint())
        elif wire in _FIXED:
            self._skip(_FIXED[wire], message.end)
        elif wire == _BYTES:
            return self._sized(message, number)
        else:
            raise Ended(f"field {number} of a {message.kind.value} has the unknown type {wire}")
        return None

    def _number(self, message: _Open, number: int, value: int) -> None:
        if message.kind is Kind.TENSOR and number == _DATA_LOCATION and value == _EXTERNAL:
            message.texts["external"] = ["yes"]

    def _sized(self, message: _Open, number: int) -> _Open | None:
        """A message, a text or bytes; the message, when it is looked into."""
        size = self._varint()
        position = self._file.tell()
        if position + size > message.end:
            raise Ended(f"field {number} of a {message.kind.value} reaches past its end")
        inner = _INNER[message.kind].get(number)
        if inner is not None:
            return _Open(inner, position + size, {})
        name = _TEXTS.get(message.kind, {}).get(number)
        if name is None:
            self._skip(size, message.end)
            return None
        if size > _MOST_TEXT:
            raise Refused(Danger.BOMB, position, f"has a {name} of {size} bytes")
        text = self._file.read(size).decode("utf-8", "backslashreplace")
        message.texts.setdefault(name, []).append(text)
        return None

    def _skip(self, size: int, end: int) -> None:
        target = self._file.tell() + size
        if target > end:
            raise Ended("a field reaches past the end of its message")
        self._file.seek(target)

    def _varint(self) -> int:
        value = shift = 0
        while byte := self._file.read(1):
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value & 0xFFFFFFFFFFFFFFFF
            shift += 7
            if shift > 63:
                raise Ended("a number is too long")
        raise Ended("it ends too early")

    def _closed(self, message: _Open, position: int) -> None:
        if position > message.end:
            raise Ended(f"a field reaches past the end of a {message.kind.value}")
        for domain, operator in _pairs(message):
            if message.kind is Kind.NODE:
                self._used.setdefault((domain, operator), position)
            else:
                self._defined.add((domain, operator))
        if message.kind is Kind.ENTRY:
            for key in message.texts.get("key", [""]):
                for value in message.texts.get("value", [""]):
                    self._entry(key, value, position)
        elif message.kind is Kind.TENSOR:
            self._tensor(message, position)

    def _entry(self, key: str, value: str, position: int) -> None:
        if key == "location":
            size = self._siblings.get(value)
            if not is_inside(value) or size is None:
                raise Refused(
                    Danger.OUTSIDE, position, f"keeps its data in `{value}`, which is not in the"
                    " bundle beside it", name=value,
                )  # fmt: skip
        self._entries[key] = value

    def _tensor(self, message: _Open, position: int) -> None:
        entries, self._entries = self._entries, {}
        if "external" not in message.texts and not entries:
            return
        location = entries.get("location")
        if location is None:
            raise Refused(
                Danger.OUTSIDE, position, "keeps its data in a file that it does not name"
            )
        numbers = [entries.get(key, "0") for key in ("offset", "length")]
        if not all(text.isascii() and text.isdigit() and len(text) < 19 for text in numbers):
            raise Refused(Danger.OUTSIDE, position, "keeps its data at no place in a file")
        if sum(map(int, numbers)) > self._siblings[location]:
            raise Refused(Danger.OUTSIDE, position, f"keeps its data past the end of `{location}`")

    def _check_operator(self, domain: str, operator: str, position: int) -> None:
        if (domain, operator) in self._defined:
            return
        name = f"{domain}.{operator}" if domain else operator
        if domain not in self._domains:
            raise Refused(
                Danger.OPERATOR,
                position,
                f"uses `{name}`, of a domain that is not allowed",
                name=domain,
            )
        if domain in STANDARD_DOMAINS and operator in _OUTSIDE_OPERATORS:
            raise Refused(Danger.OPERATOR, position, f"uses `{name}`, which runs what lies elsewhere",
                          name=domain)  # fmt: skip


def _pairs(message: _Open) -> Iterator[tuple[str, str]]:
    """Domain and operator of a node or function; the last of each counts, all are looked at."""
    if message.kind in (Kind.NODE, Kind.FUNCTION):
        for domain in message.texts.get("domain", [""]):
            for operator in message.texts.get("operator", [""]):
                yield domain, operator
