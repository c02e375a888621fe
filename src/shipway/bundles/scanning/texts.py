"""Models that are texts: how deeply they are nested, and what torch would evaluate in them."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import closing
from typing import IO, Any

from shipway.bundles.formats.ubjson import is_whole
from shipway.bundles.scanning.contents import Content
from shipway.bundles.scanning.findings import Findings
from shipway.core.scans import Danger

MOST_NESTING = 64
_CHUNK = 1 << 20
_MOST_PROGRAM_BYTES = 256 * 1024 * 1024
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', re.DOTALL)
_UBJSON = tuple(bytes([byte]) for byte in b"iUIlL$#")
_FUNCTIONS = (
    "Abs Add And BitwiseFn_bitwise_and CeilDiv CeilToInt CleanDiv Eq FloatPow FloatTrueDiv FloorDiv FloorToInt Ge "
    "Gt Identity IntTrueDiv IsNonOverlappingAndDenseIndicator LShift Le Lt Max Min Mod ModularIndexing Ne Not "
    "OpaqueUnaryFn_sqrt Or Pow PowByNatural PythonMod RShift RoundDecimal RoundToInt ToFloat TruncToFloat "
    "TruncToInt Where ceiling floor sqrt Integer Rational Float Symbol Mul Equality Unequality Piecewise ExprCondPair"
    " StrictGreaterThan StrictLessThan GreaterThan LessThan"
)
"""Those that torch writes, and sympy evaluates."""

_CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
_QUOTED = re.compile(r"'\w{1,64}'")
_SAFE = re.compile(r"[\w\s+\-*/(),.<>=!&|~]*")
_ATTRIBUTE = re.compile(r"[A-Za-z_)]\s*\.")


def check_nesting(content: Content, findings: Findings) -> None:
    """Reports JSON or UBJSON nested more deeply than any booster: its readers call themselves."""
    with closing(content.open()) as stream:
        head = stream.read(2)
        if head[:1] not in (b"{", b"["):
            return
        if head[1:] in _UBJSON:
            content_left = head + stream.read(_MOST_PROGRAM_BYTES)
            if not is_whole(content_left):
                findings.add(
                    Danger.UNREADABLE, content.path, "is no whole UBJSON, or nested too deeply"
                )
            return
    with closing(content.open()) as stream:
        if _depth(stream) > MOST_NESTING:
            findings.add(Danger.BOMB, content.path, "is nested too deeply")


def _depth(stream: IO[bytes]) -> int:
    depth = deepest = 0
    left = b""
    while chunk := stream.read(_CHUNK):
        text = left + chunk
        end = 0
        for token in _TOKEN.finditer(text):
            end = token.end()
            first = token[0][:1]
            depth += (first in b"[{") - (first in b"]}")
            deepest = max(deepest, depth)
        # A string may go on in the next chunk.
        open_at = text.find(b'"', end)
        left = text[open_at:] if open_at >= 0 else b""
        if deepest > MOST_NESTING or len(left) > 64 * _CHUNK:
            return MOST_NESTING + 1
    return deepest


def check_expressions(content: Content, findings: Findings) -> None:
    """Reports expressions of a `torch.export` program that are more than arithmetic.

    torch gives them to sympy, which evaluates them as Python.
    """
    with closing(content.open()) as stream:
        try:
            with zipfile.ZipFile(stream) as archive:
                for entry in archive.infolist():
                    if entry.filename.endswith(".json") and entry.file_size <= _MOST_PROGRAM_BYTES:
                        _check_program(
                            f"{content.path}!{entry.filename}", archive.read(entry), findings
                        )
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError) as exc:
            findings.add(Danger.UNREADABLE, content.path, f"cannot be read: {exc}")


def _check_program(path: str, text: bytes, findings: Findings) -> None:
    try:
        program = json.loads(text)
    except (ValueError, RecursionError):
        return findings.add(Danger.UNREADABLE, path, "is no JSON that can be read")
    for expression in _expressions(program):
        if not is_arithmetic(expression):
            findings.add(
                Danger.CALL, path, "has an expression that is more than arithmetic", name=expression
            )
    return None


def _expressions(program: Any) -> Iterator[str]:
    left = [program]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left.extend(one.values())
            if isinstance(one.get("expr_str"), str):
                yield one["expr_str"]
        elif isinstance(one, list):
            left.extend(one)


def is_arithmetic(expression: str) -> bool:
    """Whether it has only numbers, names, operators, and calls of torch's own functions."""
    expression = _QUOTED.sub("0", expression)
    if _SAFE.fullmatch(expression) is None or "__" in expression:
        return False
    calls = {found[1] for found in _CALL.finditer(expression)}
    return calls <= set(_FUNCTIONS.split()) and _ATTRIBUTE.search(expression) is None
