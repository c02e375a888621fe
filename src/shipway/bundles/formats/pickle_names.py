"""Pickle and joblib files, read without running them: which classes and functions they name.

A pickle is a program that rebuilds an object. Here it is run with every class and function replaced
by an inert stand-in, so nothing that it names is imported or called. joblib writes the raw bytes of
arrays between the instructions; they are skipped as joblib's own reader would read them.
"""

from __future__ import annotations

import os
import pickle
import sys
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from pathlib import Path
from typing import IO, Any, ClassVar

import msgspec
import numpy as np

from shipway.bundles.formats.streams import DAMAGED, uncompressed

Named = tuple[str, str]


class PickleNames(msgspec.Struct, frozen=True, kw_only=True):
    """What a pickle names, in order of appearance, as (module, qualified name).

    `complete` is False when the file uses something that could not be followed to its end;
    `truncated` says that it ends too early, or that its compressed data is damaged.
    """

    names: tuple[Named, ...]
    complete: bool = False
    truncated: bool = False

    @property
    def root(self) -> Named | None:
        """The class of the pickled object; None when it is a plain value (dict, list, number)."""
        return next((n for n in self.names if n[0].partition(".")[0] not in _PLUMBING), None)

    @property
    def modules(self) -> frozenset[str]:
        """Top-level modules outside the standard library."""
        found = {module.partition(".")[0] for module, _ in self.names}
        return frozenset(found - set(sys.stdlib_module_names) - {"__main__"})


_PLUMBING = frozenset(
    {"copyreg", "copy_reg", "builtins", "__builtin__", "joblib", "numpy", "_codecs"}
)


def looks_like_pickle(path: Path) -> bool:
    """Whether the file, once uncompressed, begins with a pickle's protocol mark.

    Of a compressed file that ends too early nothing may be readable; it counts as one.
    """
    try:
        with path.open("rb") as file, uncompressed(file) as stream:
            head = stream.read(2)
    except EOFError:
        return True
    except (OSError, *DAMAGED):
        return False
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= pickle.HIGHEST_PROTOCOL


def root_of(path: Path) -> Named | None:
    """The class of the pickled object, from the beginning of the file; None when none is found."""
    try:
        with path.open("rb") as file, uncompressed(file) as stream:
            _Scanner(stream, stop_at_root=True).load()
    except _RootFound as found:
        return found.name
    except _UNFOLLOWED:
        return None
    return None


def names_in(path: Path) -> PickleNames:
    """Everything that the pickle names."""
    with path.open("rb") as file, uncompressed(file) as stream:
        scanner = _Scanner(stream)
        try:
            scanner.load()
            # Makes a compressed stream check what follows the last instruction.
            stream.read(1)
        except DAMAGED:
            return PickleNames(names=tuple(scanner.names), truncated=True)
        except _UNFOLLOWED as exc:
            ended = isinstance(exc, pickle.UnpicklingError) and _says_truncated(exc)
            ended = ended or (stream is file and _lacks_its_end(file))
            return PickleNames(names=tuple(scanner.names), truncated=ended)
    return PickleNames(names=tuple(scanner.names), complete=True)


def _lacks_its_end(file: IO[bytes]) -> bool:
    """Whether the last byte is another than the instruction with which every pickle ends."""
    file.seek(-1, os.SEEK_END)
    return file.read(1) != pickle.STOP


def _says_truncated(exc: Exception) -> bool:
    return "truncated" in str(exc) or "exhausted" in str(exc)


class _RootFound(Exception):
    def __init__(self, name: Named) -> None:
        super().__init__(name)
        self.name = name


class _StandInType(type):
    """Lets the class itself take what a pickle does to instances."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__call__()

    def __setitem__(cls, key: Any, value: Any) -> None: ...


class _StandIn(metaclass=_StandInType):
    """Takes everything that a pickle does to an object, and does nothing."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__new__(cls)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return _StandIn()

    def __setstate__(*args: Any) -> None: ...

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(*args: Any) -> None:
        """Ignores the item."""

    extend = add = update = append


class _ArrayMark(_StandIn):
    """Stands in for joblib's wrapper: says how many raw bytes follow."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state


_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


# The stub files leave the Python unpickler out, so mypy sees a base of unknown type.
class _Scanner(_PythonUnpickler):  # type: ignore[misc]
    """The standard library's Python unpickler, with stand-ins for everything that it imports."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PythonUnpickler.dispatch)

    def __init__(self, stream: IO[bytes], *, stop_at_root: bool = False) -> None:
        super().__init__(stream)
        self.stream = stream
        self.names: list[Named] = []
        self._stop_at_root = stop_at_root

    def find_class(self, module: str, name: str) -> Any:
        if self.proto < 3:
            # Pickles that Python 2 can read name its modules.
            module, name = NAME_MAPPING.get((module, name), (module, name))
            module = IMPORT_MAPPING.get(module, module)
        self.names.append((module, name))
        if self._stop_at_root and module.partition(".")[0] not in _PLUMBING:
            raise _RootFound((module, name))
        if (module, name) == ("numpy", "dtype"):
            return np.dtype
        return _ArrayMark if name in _ARRAY_WRAPPERS else _StandInType(name, (_StandIn,), {})

    def persistent_load(self, pid: Any) -> Any:
        return _StandIn()

    def load_build(self) -> None:
        super().load_build()
        mark = self.stack[-1]
        if isinstance(mark, _ArrayMark):
            self._skip_array(mark.state)
            self.stack[-1] = _StandIn()

    dispatch[pickle.BUILD[0]] = load_build

    def _skip_array(self, state: dict[str, Any]) -> None:
        dtype = np.dtype(state["dtype"])
        if dtype.hasobject:
            inner = _Scanner(self.stream)
            inner.names, inner._stop_at_root = self.names, self._stop_at_root
            inner.load()
            return
        if state.get("numpy_array_alignment_bytes") is not None:
            self._skip(self._skip(1)[0])
        self._skip(int(np.prod(state["shape"], dtype=np.int64)) * dtype.itemsize)

    def _skip(self, size: int) -> bytes:
        last = b"\x00"
        while size:
            last = self.stream.read(min(size, 1 << 20))
            if not last:
                raise EOFError("array data ends too early")
            size -= len(last)
        return last


_ARRAY_WRAPPERS = frozenset({"NumpyArrayWrapper"})

_UNFOLLOWED = (
    pickle.UnpicklingError,
    AttributeError,
    KeyError,
    IndexError,
    TypeError,
    ValueError,
    OSError,
    *DAMAGED,
)
