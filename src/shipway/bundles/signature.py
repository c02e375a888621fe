"""The signature of a model: inferred from its format and a sample, completed by trying it out."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from shipway.bundles.formats.port import OpenArtifact, Sample
from shipway.bundles.inputs import Inputs, in_fp64, infer_inputs
from shipway.bundles.overrides import Overrides, declared_inputs
from shipway.bundles.trials import Arrays, answers, doubled, made_up_rows, rows_of, takes, with_null
from shipway.core.errors import InvalidArtifact
from shipway.core.signature import Field, Signature
from shipway.core.tensors import NUMPY_OF, Array, DataType, data_type_of
from shipway.core.validation import compile_validator
from shipway.engines.port import Engine

PROBE_ROWS = 32
_MAX_NULL_TRIALS = 200


class Inferred(msgspec.Struct, frozen=True, kw_only=True):
    """A signature with the engine's own output names, the sample in its dtypes, and notes.

    `tried` are inputs that are nullable only because the model answered a null when it was tried:
    neither the sample nor a declaration has one.
    """

    signature: Signature
    sample: Sample | None
    notes: tuple[str, ...] = ()
    tried: frozenset[str] = frozenset()

    def refusing_tried_nulls(self) -> Inferred:
        """The same, with the tried inputs not nullable."""
        inputs = tuple(
            msgspec.structs.replace(field, nullable=field.nullable and field.name not in self.tried)
            for field in self.signature.inputs
        )
        listed = ", ".join(f"`{name}`" for name in sorted(self.tried))
        note = (
            f"Nulls are refused in {listed}: the sample has none there, and the ONNX form answers"
            " them differently. Declare `nullable: true` to serve the original instead."
        )
        return msgspec.structs.replace(
            self,
            signature=msgspec.structs.replace(self.signature, inputs=inputs),
            notes=(*self.notes, note),
            tried=frozenset(),
        )


def infer_signature(
    artifact: OpenArtifact, sample: Sample | None, *, overrides: Overrides | None = None
) -> Inferred:
    """What the model takes and gives. Runs the original engine on rows of the sample.

    Without a sample, made-up rows (zeros) are tried. A float or text input is nullable when the
    sample has nulls there, or when the model answers a null there without raising or giving NaN.

    Raises:
        InvalidArtifact: the model does not answer, or nothing tells what it takes.
        InvalidRequest, InvalidInput: the sample does not fit the model, or breaks a declared rule.
        InvalidSpec: a declaration does not fit the model.
    """
    found = infer_inputs(artifact, sample)
    declared = overrides or Overrides()
    try:
        draft, conformed, trial = _drafted(artifact, found, declared)
    except InvalidArtifact:
        # Some estimators fitted on FP64 (k-means) take nothing else.
        if artifact.signature is not None or not _has_fp32(found.fields):
            raise
        found = in_fp64(found)
        draft, conformed, trial = _drafted(artifact, found, declared)
    fields = draft.inputs
    tried = _nulls_taken(artifact.engine, _unanswered(fields), trial.row)
    inputs = tuple(
        msgspec.structs.replace(field, nullable=True) if field.name in tried else field
        for field in fields
    )
    signature = msgspec.structs.replace(
        draft, inputs=inputs, outputs=trial.outputs, batchable=trial.batchable
    )
    notes = found.notes + trial.notes
    return Inferred(signature=signature, sample=conformed, notes=notes, tried=tried)


def _has_fp32(fields: tuple[Field, ...]) -> bool:
    return any(field.dtype is DataType.FP32 for field in fields)


def _drafted(
    artifact: OpenArtifact, found: Inputs, overrides: Overrides
) -> tuple[Signature, Sample | None, _Trial]:
    """The inputs as declared, the sample like them, and what the model did with it."""
    fields = declared_inputs(found.fields, overrides.inputs)
    if not fields:
        raise InvalidArtifact(
            "Nothing tells what this model takes.",
            next_step="Give a sample of its inputs, or declare `inputs` with their dtypes.",
        )
    draft = Signature(layout=found.layout, inputs=fields, outputs=())
    conformed = None if found.sample is None else _conformed(found.sample, draft)
    return draft, conformed, _trial(artifact, draft, conformed)


def _conformed(sample: Sample, signature: Signature) -> Sample:
    """The sample as a request of this signature would arrive."""
    respelled = {
        field.name: _respelled(sample.inputs[field.name], field) for field in signature.inputs
    }
    return msgspec.structs.replace(sample, inputs=compile_validator(signature)(respelled))


def _respelled(array: Array, field: Field) -> Array:
    """Numbers as text where text is declared (postal codes, say), and booleans as numbers."""
    if array.dtype == np.bool_ and field.dtype not in (DataType.BOOL, DataType.STRING):
        return array.astype(NUMPY_OF[field.dtype])
    if field.dtype is DataType.STRING and array.dtype != object:
        texts = np.empty(array.shape, dtype=object)
        texts[...] = array.astype(str)
        return texts
    return array


class _Trial(msgspec.Struct, frozen=True, kw_only=True):
    row: Arrays | None
    outputs: tuple[Field, ...]
    batchable: bool
    notes: tuple[str, ...] = ()


def _trial(artifact: OpenArtifact, draft: Signature, sample: Sample | None) -> _Trial:
    """One row and several rows run, or the format's own outputs when only a sample could be run."""
    if sample is not None:
        probe = rows_of(sample.inputs, slice(PROBE_ROWS))
        what, advice = "the sample", "Check that the sample is what the model was trained on."
    else:
        probe = made_up_rows(draft.inputs, rows=2)
        what, advice = "made-up rows of zeros", "Give a sample of its inputs."
    own = artifact.signature.outputs if artifact.signature is not None else ()
    try:
        return _tried(artifact, draft, probe, what=what, advice=advice)
    except InvalidArtifact as exc:
        if sample is not None or not own:
            raise
        batchable = artifact.batchable is not False and _free_rows(draft.inputs + own)
        return _Trial(row=None, outputs=own, batchable=batchable, notes=(exc.message,))


def _tried(
    artifact: OpenArtifact, draft: Signature, probe: Arrays, *, what: str, advice: str
) -> _Trial:
    many = answers(artifact.engine, probe, what=what, next_step=advice)
    rows = len(next(iter(probe.values())))
    own = artifact.signature.outputs if artifact.signature is not None else ()
    if not _free_rows(draft.inputs):
        outputs = _outputs(many, many, own=own)
        return _Trial(row=probe, outputs=outputs, batchable=False)
    row = rows_of(probe, slice(1))
    if rows == 1:  # a sample of one row: twice the same row still shows whether outputs follow
        probe, rows = doubled(probe), 2
        many = answers(artifact.engine, probe, what=f"two rows of {what}", next_step=advice)
    one = answers(artifact.engine, row, what=f"one row of {what}", next_step=advice)
    outputs = _outputs(many, one, own=own)
    independent = artifact.batchable is not False and _free_rows(outputs)
    batchable = independent and _follows_rows(artifact.engine, probe, many, one=one)
    note = () if batchable else ("Rows of several requests are not stacked.",)
    return _Trial(row=row, outputs=outputs, batchable=batchable, notes=note)


def _free_rows(fields: tuple[Field, ...]) -> bool:
    return all(field.shape[:1] == (-1,) for field in fields)


def _outputs(many: Arrays, one: Arrays, *, own: tuple[Field, ...]) -> tuple[Field, ...]:
    known = {field.name: field for field in own}
    return tuple(
        known.get(name)
        or Field(name=name, dtype=data_type_of(array), shape=_shape(array, one.get(name, array)))
        for name, array in many.items()
    )


def _shape(many: Array, one: Array) -> tuple[int, ...]:
    """What both runs have in common; the first dimension is free when it followed the rows."""
    if many.ndim == 0 or many.ndim != one.ndim:
        return many.shape
    first = -1 if many.shape[0] != one.shape[0] else many.shape[0]
    rest = (
        size if size == other else -1
        for size, other in zip(many.shape[1:], one.shape[1:], strict=True)
    )
    return (first, *rest)


def _follows_rows(engine: Engine, probe: Arrays, many: Arrays, *, one: Arrays) -> bool:
    """Whether outputs have a row per input row, and first and last row answer alike when alone."""
    rows = len(next(iter(probe.values())))
    if any(len(array) != rows for array in many.values()):
        return False
    if any(len(array) != 1 for array in one.values()):
        return False
    last = answers(engine, rows_of(probe, slice(rows - 1, rows)), what="one row", next_step="")
    return _same(many, one, row=0) and _same(many, last, row=rows - 1)


def _same(many: Mapping[str, Array], alone: Mapping[str, Array], *, row: int) -> bool:
    for name, array in many.items():
        left, right = array[row], alone[name][0]
        if array.dtype.kind == "f":
            if not np.allclose(left, right, rtol=1e-3, atol=1e-5, equal_nan=True):
                return False
        elif not np.array_equal(left, right):
            return False
    return True


def _unanswered(fields: tuple[Field, ...]) -> list[str]:
    """The inputs that could hold a null, and of which nobody has said or shown whether they may."""
    return [
        field.name
        for field in fields
        if not field.nullable
        and "nullable" not in field.declared
        and (field.dtype.is_float or field.dtype is DataType.STRING)
    ]


def _nulls_taken(engine: Engine, names: list[str], row: Arrays | None) -> frozenset[str]:
    if row is None or not names:
        return frozenset()
    if takes(engine, with_null(row, names)):
        return frozenset(names)
    # A very wide model that refuses some nulls is asked about its first columns only.
    asked = names[:_MAX_NULL_TRIALS]
    return frozenset(name for name in asked if takes(engine, with_null(row, [name])))
