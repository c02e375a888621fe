"""A person's own Python modules, imported under a name space of their own.

Two bundles may both have a `model.py`; here each is a package such as `shipway_code_1`, whose modules
find each other by the plain names that they were written with. Nothing is written beside them.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.abc
import importlib.util
import itertools
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

_numbers = itertools.count(1)


class CodeSpace:
    """The modules of one directory, or one file, importable without touching `sys.path`."""

    def __init__(self, path: Path) -> None:
        """`path` is a directory of modules and packages, or one source file of any name."""
        self._prefix = f"shipway_code_{next(_numbers)}"
        self._directory = path if path.is_dir() else path.parent
        self._file = None if path.is_dir() else path
        self._lent: list[str] | None = None
        self._own = {path.stem} if path.is_file() else _modules_in(path)
        package = ModuleType(self._prefix)
        package.__path__ = [str(self._directory)]
        sys.modules[self._prefix] = package
        sys.meta_path.insert(0, _Finder(self))

    def import_module(self, name: str) -> ModuleType:
        """The module with that plain name; raises what its code raises."""
        return importlib.import_module(f"{self._prefix}.{name}")

    def owns(self, name: str) -> bool:
        """Whether the first part of a plain module name lies here."""
        return name.partition(".")[0] in self._own

    @contextmanager
    def under_plain_names(self) -> Iterator[None]:
        """While it lasts, these modules are importable by their plain names as well.

        Pickles name classes by their plain modules, and a model's `load` may read one.
        """
        finder = _PlainFinder(self)
        self._lent = []
        sys.meta_path.append(finder)
        try:
            yield
        finally:
            sys.meta_path.remove(finder)
            for name in self._lent:
                sys.modules.pop(name, None)
            self._lent = None

    def lend(self, name: str) -> None:
        """Puts the module of that plain name where `pickle` looks for it, while names are lent."""
        if self._lent is not None:
            self._lent.append(name)
            sys.modules[name] = self.import_module(name)

    def spec_of(self, name: str, path: Sequence[str] | None) -> ModuleSpec | None:
        """The spec of one of these modules by its full name; None for others' names."""
        if not name.startswith(f"{self._prefix}."):
            return None
        if self._file is not None and name == f"{self._prefix}.{self._file.stem}":
            loader = _Source(self, name, str(self._file))
            return importlib.util.spec_from_file_location(name, self._file, loader=loader)
        spec = PathFinder.find_spec(name, path)
        if spec is not None and isinstance(spec.loader, SourceFileLoader):
            spec.loader = _Source(self, name, spec.loader.path)
        return spec

    def imported(
        self,
        name: str,
        module_globals: Mapping[str, Any] | None = None,
        module_locals: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        """What an `import` statement in one of these modules gives (see `builtins.__import__`)."""
        if level or not self.owns(name):
            return builtins.__import__(name, module_globals, module_locals, fromlist or (), level)
        full = f"{self._prefix}.{name}"
        module = importlib.import_module(full)
        if name not in sys.modules:
            # `pickle` imports through the code that calls it, and then looks there.
            self.lend(name)
        if not fromlist:
            return sys.modules[f"{self._prefix}.{name.partition('.')[0]}"]
        return builtins.__import__(full, module_globals, module_locals, fromlist, 0) or module


def _modules_in(directory: Path) -> set[str]:
    """The modules, and the packages: directories that hold source somewhere."""
    files = {file.stem for file in directory.glob("*.py")}
    return files | {item.relative_to(directory).parts[0] for item in directory.glob("*/**/*.py")}


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, space: CodeSpace) -> None:
        self._space = space

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return self._space.spec_of(fullname, path)


class _Source(SourceFileLoader):
    """Reads source only: no byte code is written or read, and imports go to the code space first."""

    def __init__(self, space: CodeSpace, fullname: str, path: str) -> None:
        super().__init__(fullname, path)
        self._space = space

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)

    def exec_module(self, module: ModuleType) -> None:
        names = vars(builtins) | {"__import__": self._space.imported}
        module.__dict__["__builtins__"] = names
        super().exec_module(module)


class _PlainFinder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Lends modules of a code space out under their plain names."""

    def __init__(self, space: CodeSpace) -> None:
        self._space = space

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not self._space.owns(fullname):
            return None
        return importlib.util.spec_from_loader(fullname, self)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        # The import system answers with what stands in `sys.modules` afterwards.
        self._space.lend(module.__name__)
