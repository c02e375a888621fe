"""Pickles put together from instructions, by hand: nothing here is ever loaded."""

from __future__ import annotations

import pickle as p
import struct

STOP = p.STOP


def short(text: str) -> bytes:
    data = text.encode()
    return p.SHORT_BINUNICODE + bytes([len(data)]) + data


def stack_global(module: str, name: str) -> bytes:
    return short(module) + p.MEMOIZE + short(name) + p.MEMOIZE + p.STACK_GLOBAL


def old_global(module: str, name: str) -> bytes:
    return p.GLOBAL + f"{module}\n{name}\n".encode()


def framed(body: bytes, *, protocol: int = 4) -> bytes:
    return p.PROTO + bytes([protocol]) + p.FRAME + struct.pack("<Q", len(body)) + body


def proto(number: int) -> bytes:
    return p.PROTO + bytes([number])


def calls(module: str, name: str, argument: str = "id") -> bytes:
    """Protocol 4, as a pickler writes it: import, call with one text, end."""
    return framed(stack_global(module, name) + short(argument) + p.TUPLE1 + p.REDUCE + STOP)


def call_of(callee: bytes, *arguments: bytes) -> bytes:
    return callee + p.MARK + b"".join(arguments) + p.TUPLE + p.REDUCE


EVIL = old_global("os", "system") + short("id") + p.TUPLE1 + p.REDUCE
"""The call without a beginning or an end."""

PLAIN = proto(4) + p.EMPTY_DICT + STOP
"""A pickle of nothing."""


def joblib_array(
    raw: bytes,
    *,
    shape: tuple[int, ...] = (1,),
    dtype: str = "f8",
    alignment: bool = True,
    padding: bytes | None = None,
    extra: bytes = b"",
    framed_over: bytes = b"",
) -> bytes:
    """joblib's wrapper of an array, and the raw bytes behind it.

    `framed_over` are instructions that a frame spans behind the wrapper, as no pickler writes them.
    """
    dims = b"".join(p.BININT + struct.pack("<i", n) for n in shape)
    kind = call_of(stack_global("numpy", "dtype"), short(dtype), p.NEWFALSE, p.NEWTRUE)
    items = short("subclass") + stack_global("numpy", "ndarray")
    items += short("shape") + p.MARK + dims + p.TUPLE + short("order") + short("C")
    items += short("dtype") + kind + short("allow_mmap") + p.NEWFALSE + extra
    if alignment:
        items += short("numpy_array_alignment_bytes") + p.BININT1 + b"\x10"
    body = stack_global("joblib.numpy_pickle", "NumpyArrayWrapper") + p.EMPTY_TUPLE + p.NEWOBJ
    body += p.EMPTY_DICT + p.MARK + items + p.SETITEMS + p.BUILD
    pad = b"\x01\xff" if padding is None else padding
    if framed_over:
        start = p.PROTO + b"\x04" + p.FRAME + struct.pack("<Q", len(body + framed_over))
        return start + body + framed_over + pad * alignment + raw
    return framed(body) + pad * alignment + raw
