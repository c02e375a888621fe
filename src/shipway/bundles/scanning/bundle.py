"""A bundle directory: every file is looked at, whatever the manifest says of it."""

from __future__ import annotations

import re
import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from shipway.bundles.scanning.contents import Content
from shipway.bundles.scanning.files import FileScan
from shipway.bundles.scanning.findings import Findings
from shipway.bundles.scanning.graphs import GraphScan, Refused
from shipway.bundles.scanning.imports import allowed
from shipway.bundles.scanning.texts import check_expressions, check_nesting
from shipway.core.bundles import MANIFEST_NAME, Format, Manifest
from shipway.core.bundles import Content as Manifested
from shipway.core.scans import Danger, ScanReport, Substance, inner_format, substance_of

SCANNER = 1
"""Counts up when the rules change, so that it shows which versions older rules let in."""

_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9.+!_-]+")
_NATIVE = (".so", ".pyd", ".dll", ".dylib", ".pyc", ".pth", ".egg", ".whl")
_PICKLED = frozenset({Format.SKLEARN, Format.XGBOOST, Format.LIGHTGBM})


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What the server's administrator allows besides: names that pickles import, and ONNX domains."""

    imports: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()


class BundleScan:
    """Scans one bundle by its manifest's content."""

    def __init__(self, directory: Path, manifest: Manifest, rules: Rules) -> None:
        self._directory = directory
        self._content = manifest.content
        self._digest = manifest.digest
        self._rules = rules
        self._findings = Findings()
        self._files = FileScan(
            allowed(rules.imports, own=_own_modules(manifest.content)), self._findings
        )

    def run(self) -> ScanReport:
        """What was found; reads every file."""
        self._check_lock()
        total = count = 0
        for path, size in self._listed():
            count, total = count + 1, total + size
            self._file(path, size)
        return ScanReport(
            digest=self._digest,
            substance=substance_of(self._content),
            files=count,
            size_bytes=total,
            scanner=SCANNER,
            findings=self._findings.all(),
        )

    def _check_lock(self) -> None:
        for line in self._content.environment.requirements:
            if _PIN.fullmatch(line) is None:
                message = f"its environment asks for `{line}`, which is no `name==version`"
                self._findings.add(Danger.OUTSIDE, MANIFEST_NAME, message, name=line)

    def _listed(self) -> Iterator[tuple[str, int]]:
        """The plain files that the manifest names; anything else under these names is reported."""
        for file in self._content.files:
            try:
                info = (self._directory / file.path).lstat()
            except OSError as exc:
                self._findings.add(Danger.UNREADABLE, file.path, f"cannot be read: {exc.strerror}")
                continue
            if not stat.S_ISREG(info.st_mode):
                self._findings.add(Danger.OUTSIDE, file.path, "is no plain file")
                continue
            yield file.path, info.st_size

    def _file(self, path: str, size: int) -> None:
        pure = PurePosixPath(path)
        if pure.suffix.lower() in _NATIVE:
            self._findings.add(
                Danger.NATIVE, path, f"is compiled or installable code (`{pure.suffix}`)"
            )
        content = Content(path, partial(_opened, self._directory / path))
        self._files.run(content, is_pickle=path in self._pickled())
        if path in self._graphs():
            self._graph(path, size)
        if path in self._boosters():
            check_nesting(content, self._findings)
        if self._content.format is Format.TORCH_EXPORT and path == self._content.artifact:
            check_expressions(content, self._findings)

    def _model_file(self) -> str:
        inner = self._content.options.get("inner")
        return f"{self._content.artifact}/{inner}" if inner is not None else self._content.artifact

    def _pickled(self) -> frozenset[str]:
        form, options = inner_format(self._content), self._content.options
        is_pickled = form is Format.SKLEARN or (form in _PICKLED and bool(options.get("pickled")))
        return frozenset({self._model_file()} if is_pickled else ())

    def _boosters(self) -> frozenset[str]:
        form = inner_format(self._content)
        is_booster = form in (Format.XGBOOST, Format.LIGHTGBM)
        return frozenset({self._model_file()} if is_booster else ())

    def _graphs(self) -> frozenset[str]:
        found = {file.path for file in self._content.files if file.path.endswith(".onnx")}
        if self._content.onnx is not None:
            found.add(self._content.onnx.path)
        if inner_format(self._content) is Format.ONNX:
            found.add(self._model_file())
        return frozenset(found)

    def _graph(self, path: str, size: int) -> None:
        beside = _beside(path, {file.path: file.size_bytes for file in self._content.files})
        domains = frozenset(self._rules.domains)
        with (self._directory / path).open("rb") as file:
            try:
                GraphScan(file, size, siblings=beside, domains=domains).run()
            except Refused as exc:
                self._findings.add(exc.danger, path, str(exc), offset=exc.position, name=exc.name)


def is_remark(content: Manifested) -> bool:
    """Whether findings are remarks: the bundle's own code is what loads its files."""
    return substance_of(content) is Substance.CODE and inner_format(content) is None


def _opened(path: Path) -> IO[bytes]:
    return path.open("rb")


def _beside(path: str, sizes: Mapping[str, int]) -> dict[str, int]:
    parent = str(PurePosixPath(path).parent)
    prefix = "" if parent == "." else f"{parent}/"
    return {
        name.removeprefix(prefix): size for name, size in sizes.items() if name.startswith(prefix)
    }


def _own_modules(content: Manifested) -> Iterable[str]:
    """The modules of the bundle's own code, which its pickles may name; none of the standard library's."""
    code = content.options.get("code")
    if not isinstance(code, str) or substance_of(content) is not Substance.CODE:
        return ()
    parts = (PurePosixPath(file.path).parts for file in content.files if file.path.endswith(".py"))
    tops = {PurePosixPath(part).stem for one in parts for part in one}
    return tops - set(sys.stdlib_module_names)
