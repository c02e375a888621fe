"""What Python source files hold, told without running them."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

_SKIPPED = frozenset({"__pycache__", ".git", ".venv"})
_MAX_SOURCE_BYTES = 4 * 1024 * 1024


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """One source file: its dotted module name, and its syntax tree."""

    module: str
    tree: ast.Module


def sources_of(path: Path) -> list[Source]:
    """The readable source files of a directory, sorted, or the one file; unreadable ones are left out."""
    if path.is_file():
        tree = _tree(path)
        return [] if tree is None else [Source(module=path.stem, tree=tree)]
    found = []
    for file in sorted(path.rglob("*.py")):
        inside = file.relative_to(path)
        tree = None if _SKIPPED & set(inside.parts) else _tree(file)
        if tree is not None:
            found.append(Source(module=_dotted(inside), tree=tree))
    return found


def model_classes(sources: list[Source]) -> list[str]:
    """`module:Class` of each top-level class that defines `predict`."""
    return [
        f"{source.module}:{node.name}"
        for source in sources
        for node in source.tree.body
        if isinstance(node, ast.ClassDef) and _defines_predict(node)
    ]


def imported_modules(sources: list[Source]) -> frozenset[str]:
    """Top-level modules that the sources import, without the standard library and their own."""
    own = {source.module.partition(".")[0] for source in sources}
    found = {name for source in sources for name in _imports(source.tree)}
    return frozenset(found - own - set(sys.stdlib_module_names))


def _imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.module.partition(".")[0]


def _defines_predict(node: ast.ClassDef) -> bool:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return any(isinstance(item, functions) and item.name == "predict" for item in node.body)


def _tree(path: Path) -> ast.Module | None:
    if path.stat().st_size > _MAX_SOURCE_BYTES:
        return None
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _dotted(inside: Path) -> str:
    parts = inside.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
