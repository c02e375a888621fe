"""What a version's answers mean, and which columns it is asked with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from math import prod

import msgspec

from shipway.client.answers import Version
from shipway.client.evaluating.held_out import HeldOut, matrix_of
from shipway.client.evaluating.judged import Label
from shipway.core.errors import InvalidRequest
from shipway.core.evaluations import Task
from shipway.core.signature import Field
from shipway.core.tensors import NUMPY_OF, Array, DataType

MOST_ROWS = 1000
_REQUEST_BYTES = 8 * 1024 * 1024
_TEXT_BYTES = 32


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """A version to judge: the output that is its answer, and that of its probabilities, if any.

    `classes` are None when the manifest does not say them: they are those of the data then.
    """

    name: str
    digest: str
    task: Task
    answer: Field
    inputs: tuple[Field, ...]
    probabilities: str | None = None
    classes: tuple[Label, ...] | None = None

    @property
    def label_type(self) -> DataType:
        """The type that the label column has for it."""
        if self.task is Task.REGRESSION:
            return DataType.FP64
        if self.classes:
            return _TYPES[type(self.classes[0])]
        return self.answer.dtype

    @property
    def rows_at_once(self) -> int:
        """How many rows one request holds: a thousand, or fewer where they are large."""
        row_bytes = sum(_row_bytes(field) for field in self.inputs)
        return max(1, min(MOST_ROWS, _REQUEST_BYTES // max(1, row_bytes)))


def _row_bytes(field: Field) -> int:
    values = prod(size for size in field.shape[1:] if size > 0)
    return values * (NUMPY_OF[field.dtype].itemsize if field.dtype.is_numeric else _TEXT_BYTES)


_TYPES = {
    bool: DataType.BOOL,
    int: DataType.INT64,
    float: DataType.FP64,
    str: DataType.STRING,
}


class Intake(msgspec.Struct, frozen=True, kw_only=True):
    """Which columns of the data a version gets; into one matrix when `matrix` names its input."""

    columns: dict[str, DataType]
    matrix: str | None = None

    def inputs(self, batch: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs of a batch."""
        if self.matrix is not None:
            return {self.matrix: matrix_of(batch, list(self.columns))}
        return {name: batch[name] for name in self.columns}


def subject_of(version: Version, task: Task | None = None) -> Subject:
    """How a version is judged; by its outputs, or as the given task.

    Raises:
        InvalidRequest: its outputs do not say whether it classifies, or which one is its answer.
    """
    assert version.manifest is not None
    content = version.manifest.content
    outputs = {field.name: field for field in content.signature.outputs}
    renamed = content.config.output_names
    label, value = (outputs.get(renamed.get(name, name)) for name in ("label", "prediction"))
    answer = label or value or (next(iter(outputs.values())) if len(outputs) == 1 else None)
    if answer is None:
        raise InvalidRequest(
            f"`{version}` has the outputs {_listed(outputs)}, none of which is called `label` or"
            " `prediction`.",
            next_step="Name one so with `output_names` in `model.yaml`, and register it again.",
        )
    found = task or _task_of(version, answer, is_label=label is not None)
    if found is Task.REGRESSION:
        return Subject(
            name=str(version),
            digest=version.digest,
            task=found,
            answer=answer,
            inputs=content.signature.inputs,
        )
    scores = outputs.get(renamed.get("probabilities", "probabilities"))
    return Subject(
        name=str(version),
        digest=version.digest,
        task=found,
        answer=answer,
        inputs=content.signature.inputs,
        probabilities=None if scores is None else scores.name,
        classes=content.classes or _numbered(answer, scores),
    )


def _task_of(version: Version, answer: Field, *, is_label: bool) -> Task:
    if is_label or answer.dtype in (DataType.STRING, DataType.BOOL):
        return Task.CLASSIFICATION
    if answer.dtype.is_float:
        return Task.REGRESSION
    raise InvalidRequest(
        f"Output `{answer.name}` of `{version}` holds {answer.dtype.value}: numbers or classes?",
        next_step="Say it with `--task classification` or `--task regression`.",
    )


def _numbered(answer: Field, scores: Field | None) -> tuple[Label, ...] | None:
    """The classes 0, 1, … of a model that numbers them, when the width of its scores is known."""
    if scores is None or not answer.dtype.is_integer or len(scores.shape) != 2:
        return None
    return tuple(range(scores.shape[1])) if scores.shape[1] > 1 else None


def intake_of(subject: Subject, data: HeldOut, *, label: str, slices: Sequence[str]) -> Intake:
    """The columns of the data that a version takes.

    Raises:
        InvalidRequest: the data lacks one of them, the label or a slice, or the label is an input.
    """
    for name in (label, *slices):
        _require(name, data, why="")
    if any(field.name == label for field in subject.inputs):
        raise InvalidRequest(
            f"`{label}` is an input of `{subject.name}`, and cannot be its label too.",
            next_step="Name the column that holds the truth with `--label`.",
        )
    matrix = _matrix(subject, data, label=label, slices=slices)
    if matrix is not None:
        return matrix
    for field in subject.inputs:
        _require(field.name, data, why=f", which `{subject.name}` takes")
    return Intake(columns={field.name: field.dtype for field in subject.inputs})


def _require(name: str, data: HeldOut, *, why: str) -> None:
    if name in data.names:
        return
    near = get_close_matches(name, data.names, n=1, cutoff=0.6)
    hint = f" Did you mean `{near[0]}`?" if near else ""
    raise InvalidRequest(
        f"{data.origin} has no column `{name}`{why}.{hint}",
        next_step=f"Its columns are {_listed(data.names)}.",
        column=name,
    )


def _matrix(subject: Subject, data: HeldOut, *, label: str, slices: Sequence[str]) -> Intake | None:
    """For a version of one matrix, the columns of a table that make it, in the table's order."""
    only = subject.inputs[0]
    if len(subject.inputs) != 1 or len(only.shape) != 2 or only.name in data.names:
        return None
    others = [name for name in data.names if name != label]
    features = [name for name in others if name not in slices]
    for names in (others, features):
        if len(names) == only.shape[1]:
            return Intake(columns=dict.fromkeys(names, only.dtype), matrix=only.name)
    raise InvalidRequest(
        f"`{subject.name}` takes a matrix of {only.shape[1]} columns; {data.origin} has"
        f" {len(features)} besides the label and the slices.",
        next_step="Leave columns that are no inputs out of the file.",
    )


def _listed(names: Sequence[str] | Mapping[str, object], most: int = 20) -> str:
    shown = ", ".join(f"`{name}`" for name in list(names)[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
