"""What a scan found in a bundle, and what of a bundle runs when it is loaded."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.bundles import Content, Format, Served


class Danger(StrEnum):
    """Why a file is not let in."""

    IMPORT = "import"
    """A pickle imports something that is not on the allow-list."""

    CALL = "call"
    """A pickle calls, makes or changes something that it may only name."""

    UNREADABLE = "unreadable"
    """It cannot be followed to its end, so nobody knows what it does."""

    ARCHIVE = "archive"
    """An archive with paths, entries or flags that two readers would read differently."""

    BOMB = "bomb"
    """It unfolds into far more than it is, or is nested too deeply."""

    OUTSIDE = "outside"
    """It refers to data outside of the bundle."""

    OPERATOR = "operator"
    """An ONNX graph uses operators of a domain that is not allowed."""

    NATIVE = "native"
    """Machine code, or Python's compiled code."""


class Substance(StrEnum):
    """What is loaded to serve a bundle."""

    DATA = "data"
    """ONNX, or XGBoost's and LightGBM's own files: read, never run."""

    PICKLE = "pickle"
    """A pickle: it may import and call what the scan's allow-list lets through."""

    PROGRAM = "program"
    """TorchScript or `torch.export`: a program in torch's own language."""

    CODE = "code"
    """Python source: it may do anything, by design."""


class ScanFinding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that is not let in: in which file, at which byte, and what it is called.

    `file` is the path in the bundle, with the entries of archives behind `!`. `offset` counts from
    the beginning of what was unpacked; None when it is of the whole file.
    """

    danger: Danger
    file: str
    message: str
    offset: int | None = None
    name: str = ""

    @property
    def line(self) -> str:
        """All of it in one line."""
        place = self.file if self.offset is None else f"{self.file} at byte {self.offset}"
        return f"{place}: {self.message}"


class ScanReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a scan says of one bundle's bytes. `scanner` is the version of its rules.

    `substance` is what serving it would load. In a bundle that is code the findings are remarks: it may
    do all of that anyway.
    """

    digest: str
    substance: Substance
    files: int
    size_bytes: int
    scanner: int
    findings: tuple[ScanFinding, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether nothing was found, and it is not code."""
        return not self.findings and self.substance is not Substance.CODE


class Scan(ScanReport, frozen=True, kw_only=True):
    """A report as it is kept with the version."""

    at: datetime


_SOURCES = (".py", ".pyc", ".so", ".pyd")
_BOOSTERS = frozenset({Format.XGBOOST, Format.LIGHTGBM})
_PROGRAMS = frozenset({Format.TORCHSCRIPT, Format.TORCH_EXPORT})


def substance_of(content: Content) -> Substance:
    """What is loaded to serve the bundle: the same cases as in `engines.original`."""
    if content.served is Served.ONNX:
        return Substance.DATA
    form = inner_format(content)
    if form is None or any(file.path.endswith(_SOURCES) for file in content.files):
        return Substance.CODE
    if form in _PROGRAMS:
        return Substance.PROGRAM
    is_data = form is Format.ONNX or (form in _BOOSTERS and not content.options.get("pickled"))
    return Substance.DATA if is_data else Substance.PICKLE


def inner_format(content: Content) -> Format | None:
    """The format whose engine loads the original; None when that is Python code or MLflow's."""
    form = content.format
    if form is Format.MLFLOW and content.options.get("inner") is not None:
        name = content.options.get("inner_format")
        form = next((one for one in Format if one.value == name), Format.MLFLOW)
    return None if form in (Format.PYTHON, Format.MLFLOW) else form
