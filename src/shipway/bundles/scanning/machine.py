"""A pickle followed instruction by instruction, with nothing imported, called or made.

The instructions and their order are those of CPython's C unpickler. It differs from the pure-Python
one in frames, which here are only noted: `arrays` refuses what the two would read differently.
"""

from __future__ import annotations

import codecs
import pickle
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from typing import Any

from shipway.bundles.scanning.source import Source
from shipway.bundles.scanning.values import OPAQUE, Made, Name, Table

MOST_TEXT = 1024
"""Longer texts are no names; they are skipped."""

MOST_INSTRUCTIONS = 100_000_000
_BOOLEANS = {b"00": False, b"01": True}


class Unfollowable(Exception):
    """The pickle does what no pickler writes, so its effect is not known."""

    def __init__(self, position: int, reason: str) -> None:
        super().__init__(reason)
        self.position = position


class Judge(ABC):
    """Is asked about everything that a pickle imports, calls, makes and changes."""

    @abstractmethod
    def imported(self, name: Name | None, position: int) -> None:
        """It imports this name; None when the name is computed."""

    @abstractmethod
    def called(self, callee: Any, arguments: Any, position: int) -> Any:
        """It calls something; the value that stands for the result."""

    @abstractmethod
    def made(self, kind: Any, arguments: Any, position: int) -> Any:
        """It makes an instance without calling the class's initialiser."""

    @abstractmethod
    def changed(self, target: Any, position: int) -> None:
        """It sets the state, items or attributes of something."""

    @abstractmethod
    def extended(self, position: int) -> None:
        """It imports a name by a number that `copyreg` was told before."""

    @abstractmethod
    def referred(self, position: int) -> Any:
        """It names an object that lies outside of the pickle."""


OnBuilt = Callable[[Made, Source], None]
"""Called when an object has its state: may read what joblib writes in between."""


class Machine:
    """Runs one pickle from the source's present position."""

    def __init__(self, source: Source, judge: Judge) -> None:
        self._source = source
        self._judge = judge
        self.on_built: OnBuilt | None = None
        self._stack: list[Any] = []
        self._marks: list[list[Any]] = []
        self._memo: dict[int, Any] = {}
        self._protocol = 0
        self.frame_end = 0

    def run(self, most: int = MOST_INSTRUCTIONS) -> None:
        """Follows it to its end, or for so many instructions.

        Raises:
            Unfollowable, Ended: it cannot be followed; the judge has heard of all before that.
        """
        read, stop = self._source.read, pickle.STOP[0]
        for _ in range(most):
            code = read(1)[0]
            if code == stop:
                self._pop()
                return
            do = _INSTRUCTIONS.get(code)
            if do is None:
                raise self._refused(f"unknown instruction 0x{code:02x}")
            try:
                do(self)
            except (ValueError, OverflowError) as exc:
                raise self._refused(str(exc)) from exc
        raise self._refused(f"over {most:,} instructions")

    def _refused(self, reason: str) -> Unfollowable:
        return Unfollowable(self._source.position, reason)

    def _pop(self) -> Any:
        if not self._stack:
            raise self._refused("the stack is empty")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack:
            raise self._refused("the stack is empty")
        return self._stack[-1]

    def _popped_to_mark(self) -> list[Any]:
        if not self._marks:
            raise self._refused("there is no mark")
        items = self._stack
        self._stack = self._marks.pop()
        return items

    def _number(self, size: int, *, signed: bool = False) -> int:
        return int.from_bytes(self._source.read(size), "little", signed=signed)

    # --- plain values ---

    def _push_mark(self) -> None:
        self._marks.append(self._stack)
        self._stack = []

    def _drop(self) -> None:
        if self._stack:
            self._stack.pop()
        else:
            self._popped_to_mark()

    def _drop_to_mark(self) -> None:
        self._popped_to_mark()

    def _duplicate(self) -> None:
        self._stack.append(self._top())

    def _float_line(self) -> None:
        float(self._source.line())
        self._stack.append(OPAQUE)

    def _integer_line(self) -> None:
        line = self._source.line()
        known = _BOOLEANS.get(line)
        self._stack.append(int(line, 0) if known is None else known)

    def _long_line(self) -> None:
        line = self._source.line()
        self._stack.append(int(line.removesuffix(b"L"), 0))

    def _long(self, size_bytes: int) -> None:
        size = self._number(size_bytes, signed=size_bytes == 4)
        if size < 0:
            raise self._refused("a number of negative length")
        if size <= 8:
            self._stack.append(self._number(size, signed=True))
        else:
            self._source.skip(size)
            self._stack.append(OPAQUE)

    def _string_line(self) -> None:
        line = self._source.line().strip()
        if len(line) < 2 or line[:1] not in (b'"', b"'") or line[-1:] != line[:1]:
            raise self._refused("a text without quotes")
        self._stack.append(_ascii(codecs.escape_decode(line[1:-1])[0]))

    def _unicode_line(self) -> None:
        text = str(self._source.line(), "raw-unicode-escape")
        self._stack.append(text if len(text) <= MOST_TEXT else OPAQUE)

    def _text(self, size_bytes: int) -> None:
        size = self._number(size_bytes)
        if size <= MOST_TEXT:
            self._stack.append(str(self._source.read(size), "utf-8", "surrogatepass"))
        else:
            self._source.skip(size)
            self._stack.append(OPAQUE)

    def _old_text(self, size_bytes: int) -> None:
        size = self._number(size_bytes, signed=size_bytes == 4)
        if size < 0:
            raise self._refused("a text of negative length")
        if size <= MOST_TEXT:
            self._stack.append(_ascii(self._source.read(size)))
        else:
            self._source.skip(size)
            self._stack.append(OPAQUE)

    def _bytes(self, size_bytes: int) -> None:
        self._source.skip(self._number(size_bytes))
        self._stack.append(OPAQUE)

    def _skip_number(self, size: int) -> None:
        self._source.skip(size)
        self._stack.append(OPAQUE)

    # --- containers ---

    def _append(self, items: Iterable[Any]) -> None:
        del items
        self._judge_change(self._top())

    def _append_one(self) -> None:
        self._append((self._pop(),))

    def _append_many(self) -> None:
        self._append(self._popped_to_mark())

    def _set_items(self, items: list[Any]) -> None:
        target = self._top()
        self._judge_change(target)
        if len(items) % 2:
            raise self._refused("a key without a value")
        if isinstance(target, Table):
            for key, value in zip(items[::2], items[1::2], strict=True):
                target.put(key, value)

    def _set_one(self) -> None:
        value, key = self._pop(), self._pop()
        self._set_items([key, value])

    def _judge_change(self, target: Any) -> None:
        if isinstance(target, Name | Made):
            self._judge.changed(target, self._source.position)

    def _table(self) -> None:
        items = self._popped_to_mark()
        self._stack.append(Table())
        self._set_items(items)

    def _list(self) -> None:
        self._popped_to_mark()
        self._stack.append(OPAQUE)

    def _tuple(self, size: int) -> None:
        if len(self._stack) < size:
            raise self._refused("the stack is too short")
        items = tuple(self._stack[-size:])
        self._stack[-size:] = [items]

    def _tuple_of_mark(self) -> None:
        items = tuple(self._popped_to_mark())
        self._stack.append(items)

    # --- the memo ---

    def _put(self, index: int) -> None:
        if index < 0:
            raise self._refused("a negative place in the memo")
        self._memo[index] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise self._refused(f"nothing is at place {index} of the memo")
        self._stack.append(self._memo[index])

    # --- what runs something ---

    def _import(self, module: str, name: str) -> None:
        if self._protocol < 3:
            module, name = NAME_MAPPING.get((module, name), (module, name))
            module = IMPORT_MAPPING.get(module, module)
        found = Name(module, name)
        self._judge.imported(found, self._source.position)
        self._stack.append(found)

    def _import_line(self) -> None:
        module, name = self._source.line(), self._source.line()
        self._import(module.decode(), name.decode())

    def _import_of_stack(self) -> None:
        name, module = self._pop(), self._pop()
        if isinstance(module, str) and isinstance(name, str):
            self._import(module, name)
        else:
            self._judge.imported(None, self._source.position)
            self._stack.append(OPAQUE)

    def _extension(self, size: int) -> None:
        self._source.skip(size)
        self._judge.extended(self._source.position)
        self._stack.append(OPAQUE)

    def _call(self) -> None:
        arguments, callee = self._pop(), self._pop()
        self._stack.append(self._judge.called(callee, arguments, self._source.position))

    def _make(self) -> None:
        arguments, kind = self._pop(), self._pop()
        self._stack.append(self._judge.made(kind, arguments, self._source.position))

    def _make_with_keywords(self) -> None:
        self._pop()
        self._make()

    def _instance_of_line(self) -> None:
        # The pure-Python unpickler imports first, and looks for the mark afterwards.
        self._import_line()
        kind = self._pop()
        self._instance(kind, tuple(self._popped_to_mark()))

    def _instance_of_stack(self) -> None:
        items = self._popped_to_mark()
        if not items:
            raise self._refused("an instance of nothing")
        self._instance(items[0], tuple(items[1:]))

    def _instance(self, kind: Any, arguments: tuple[Any, ...]) -> None:
        # Without arguments a class is made and not called, unless it has `__getinitargs__`.
        self._stack.append(self._judge.called(kind, arguments, self._source.position))

    def _build(self) -> None:
        state, target = self._pop(), self._top()
        if not isinstance(target, Made):
            self._judge.changed(target, self._source.position)
            return
        target.state = state
        self._judge.changed(target, self._source.position)
        if self.on_built is not None:
            self.on_built(target, self._source)

    def _refer_of_line(self) -> None:
        self._source.line()
        self._stack.append(self._judge.referred(self._source.position))

    def _refer_of_stack(self) -> None:
        self._pop()
        self._stack.append(self._judge.referred(self._source.position))

    def _protocol_number(self) -> None:
        self._protocol = self._number(1)
        if self._protocol > pickle.HIGHEST_PROTOCOL:
            raise self._refused(f"protocol {self._protocol}")

    def _frame(self) -> None:
        size = self._number(8)
        self.frame_end = max(self.frame_end, self._source.position + size)

    def _read_only(self) -> None:
        self._top()

    def _out_of_band(self) -> None:
        raise self._refused("a buffer outside of the pickle")


def _ascii(data: bytes) -> Any:
    return data.decode() if data.isascii() else OPAQUE


def _pushing(value: Any) -> Callable[[Machine], None]:
    return lambda machine: machine._stack.append(value)


_INSTRUCTIONS: dict[int, Callable[[Machine], None]] = {
    code[0]: do
    for code, do in {
        pickle.MARK: Machine._push_mark,
        pickle.POP: Machine._drop,
        pickle.POP_MARK: Machine._drop_to_mark,
        pickle.DUP: Machine._duplicate,
        pickle.FLOAT: Machine._float_line,
        pickle.INT: Machine._integer_line,
        pickle.LONG: Machine._long_line,
        pickle.BININT: lambda m: m._stack.append(m._number(4, signed=True)),
        pickle.BININT1: lambda m: m._stack.append(m._number(1)),
        pickle.BININT2: lambda m: m._stack.append(m._number(2)),
        pickle.NONE: _pushing(None),
        pickle.NEWTRUE: _pushing(True),
        pickle.NEWFALSE: _pushing(False),
        pickle.EMPTY_TUPLE: _pushing(()),
        pickle.EMPTY_LIST: _pushing(OPAQUE),
        pickle.EMPTY_SET: _pushing(OPAQUE),
        pickle.EMPTY_DICT: lambda m: m._stack.append(Table()),
        pickle.BINFLOAT: lambda m: m._skip_number(8),
        pickle.LONG1: lambda m: m._long(1),
        pickle.LONG4: lambda m: m._long(4),
        pickle.STRING: Machine._string_line,
        pickle.UNICODE: Machine._unicode_line,
        pickle.BINSTRING: lambda m: m._old_text(4),
        pickle.SHORT_BINSTRING: lambda m: m._old_text(1),
        pickle.SHORT_BINUNICODE: lambda m: m._text(1),
        pickle.BINUNICODE: lambda m: m._text(4),
        pickle.BINUNICODE8: lambda m: m._text(8),
        pickle.SHORT_BINBYTES: lambda m: m._bytes(1),
        pickle.BINBYTES: lambda m: m._bytes(4),
        pickle.BINBYTES8: lambda m: m._bytes(8),
        pickle.BYTEARRAY8: lambda m: m._bytes(8),
        pickle.NEXT_BUFFER: Machine._out_of_band,
        pickle.READONLY_BUFFER: Machine._read_only,
        pickle.APPEND: Machine._append_one,
        pickle.APPENDS: Machine._append_many,
        pickle.ADDITEMS: Machine._append_many,
        pickle.SETITEM: Machine._set_one,
        pickle.SETITEMS: lambda m: m._set_items(m._popped_to_mark()),
        pickle.DICT: Machine._table,
        pickle.LIST: Machine._list,
        pickle.FROZENSET: Machine._list,
        pickle.TUPLE: Machine._tuple_of_mark,
        pickle.TUPLE1: lambda m: m._tuple(1),
        pickle.TUPLE2: lambda m: m._tuple(2),
        pickle.TUPLE3: lambda m: m._tuple(3),
        pickle.PUT: lambda m: m._put(int(m._source.line())),
        pickle.BINPUT: lambda m: m._put(m._number(1)),
        pickle.LONG_BINPUT: lambda m: m._put(m._number(4)),
        pickle.MEMOIZE: lambda m: m._put(len(m._memo)),
        pickle.GET: lambda m: m._get(int(m._source.line())),
        pickle.BINGET: lambda m: m._get(m._number(1)),
        pickle.LONG_BINGET: lambda m: m._get(m._number(4)),
        pickle.GLOBAL: Machine._import_line,
        pickle.STACK_GLOBAL: Machine._import_of_stack,
        pickle.EXT1: lambda m: m._extension(1),
        pickle.EXT2: lambda m: m._extension(2),
        pickle.EXT4: lambda m: m._extension(4),
        pickle.REDUCE: Machine._call,
        pickle.NEWOBJ: Machine._make,
        pickle.NEWOBJ_EX: Machine._make_with_keywords,
        pickle.INST: Machine._instance_of_line,
        pickle.OBJ: Machine._instance_of_stack,
        pickle.BUILD: Machine._build,
        pickle.PERSID: Machine._refer_of_line,
        pickle.BINPERSID: Machine._refer_of_stack,
        pickle.PROTO: Machine._protocol_number,
        pickle.FRAME: Machine._frame,
    }.items()
}

_NEEDS_BEFORE = b"0123.RbdaeghjloprqstuR\x81\x85\x86\x87\x90\x91\x92\x93\x94\x98"
BEGINNINGS = frozenset(_INSTRUCTIONS) - frozenset(_NEEDS_BEFORE)
"""The first bytes that a pickle may have: all others fail at once, on an empty stack, mark or memo."""
