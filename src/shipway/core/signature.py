"""What a model version takes and gives: columns of a table, or named tensors."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

import msgspec

from shipway.core.tensors import DataType


class Layout(StrEnum):
    """How the inputs are laid out."""

    COLUMNS = "columns"
    """A table: each input is one column, an array of shape [rows]."""

    TENSORS = "tensors"
    """Named tensors: each input is an array of its own shape."""


Origin = Literal["inferred", "declared"]


class Field(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """One input or output.

    `shape` has -1 for a dimension that varies; a column has shape (-1,). `minimum`, `maximum` and
    `categories` describe what was seen; they are enforced only when `declared` names them, so that
    a new category does not stop a live endpoint unless somebody said that it must. `nullable` is
    always enforced: null is NaN in float fields and None in STRING fields.
    `declared` lists the attributes that a person stated; all others were inferred.
    """

    name: str
    dtype: DataType
    shape: tuple[int, ...] = (-1,)
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[str, ...] | None = None
    declared: tuple[str, ...] = ()

    def origin_of(self, attribute: str) -> Origin:
        """Whether an attribute was stated by a person or inferred."""
        return "declared" if attribute in self.declared else "inferred"


class Signature(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """The inputs and outputs of a version, in order.

    `batchable` says that the first dimension of every input and output counts rows, so that rows of
    several requests may be stacked into one call and split again.
    """

    layout: Layout
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    batchable: bool = True

    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs, in signature order."""
        return tuple(field.name for field in self.inputs)

    def output_names(self) -> tuple[str, ...]:
        """The names of the outputs, in signature order."""
        return tuple(field.name for field in self.outputs)
