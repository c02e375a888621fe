"""How a signature is inferred from a format's knowledge, a sample and trying the model out."""

import numpy as np
import pytest

from shipway.bundles.formats.port import OpenArtifact
from shipway.bundles.overrides import parse_overrides
from shipway.bundles.samples import sample_of
from shipway.bundles.signature import infer_signature
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, InvalidInput, InvalidRequest
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType


class Summing:
    """Sums its inputs by row; refuses nulls like most estimators."""

    def run(self, inputs):
        rows = [array.reshape(len(array), -1).sum(axis=1) for array in inputs.values()]
        total = np.sum(rows, axis=0)
        if np.isnan(total).any():
            raise ValueError("Input contains NaN.")
        return {"prediction": total}


class Spreading(Summing):
    """Lets NaN through into its answer."""

    def run(self, inputs):
        return {"prediction": sum(array.astype(float) for array in inputs.values())}


class Tolerant:
    """Counts what is not null."""

    def run(self, inputs):
        flags = [[item is not None and item == item for item in a] for a in inputs.values()]
        return {"prediction": np.array(flags).sum(axis=0)}


class Centering(Summing):
    """Answers depend on the other rows of the call."""

    def run(self, inputs):
        total = super().run(inputs)["prediction"]
        return {"prediction": total - total.mean()}


class Summarizing(Summing):
    """One answer per call."""

    def run(self, inputs):
        return {"prediction": super().run(inputs)["prediction"].sum(keepdims=True)}


def artifact(engine, **known):
    known.setdefault("format", Format.SKLEARN)
    return OpenArtifact(model=engine, engine=engine, **known)


def test_a_bare_matrix_is_one_fp32_tensor_x():
    found = infer_signature(artifact(Summing(), feature_count=3), None).signature

    assert found.layout is Layout.TENSORS
    assert found.inputs == (Field(name="X", dtype=DataType.FP32, shape=(-1, 3)),)
    assert found.outputs == (Field(name="prediction", dtype=DataType.FP32),)
    assert found.batchable


def test_whole_numbers_that_fp32_cannot_hold_make_the_matrix_fp64():
    inferred = infer_signature(
        artifact(Summing(), feature_count=2), sample_of(np.array([[16_777_217, 1], [2, 3]]))
    )

    assert inferred.signature.inputs[0].dtype is DataType.FP64
    assert "FP32 cannot tell apart" in inferred.notes[0]


def test_columns_without_a_sample_are_fp64_and_a_note_says_so():
    inferred = infer_signature(artifact(Summing(), feature_names=("a", "b")), None)

    assert [field.dtype for field in inferred.signature.inputs] == [DataType.FP64] * 2
    assert "No sample" in inferred.notes[0]


def test_a_sample_gives_dtypes_ranges_categories_and_nulls():
    sample = sample_of(
        {"a": [1, 5], "b": [0.5, None], "c": ["y", "x"], "d": [True, False], "target": [0, 1]}
    )
    names = ("d", "c", "b", "a")
    inferred = infer_signature(artifact(Tolerant(), feature_names=names), sample)

    assert inferred.signature.inputs == (
        Field(name="d", dtype=DataType.BOOL),
        Field(name="c", dtype=DataType.STRING, nullable=True, categories=("x", "y")),
        Field(name="b", dtype=DataType.FP64, nullable=True, minimum=0.5, maximum=0.5),
        Field(name="a", dtype=DataType.INT64, minimum=1.0, maximum=5.0),
    )
    assert inferred.tried == {"c"}
    assert "`target`" in inferred.notes[0]


def test_more_than_50_texts_are_no_categories():
    sample = sample_of({"a": [f"v{i}" for i in range(51)]})
    inferred = infer_signature(artifact(Tolerant(), feature_names=("a",)), sample)

    assert inferred.signature.inputs[0].categories is None


@pytest.mark.parametrize(
    ("engine", "nullable"), [(Summing(), False), (Spreading(), False), (Tolerant(), True)]
)
def test_a_column_is_nullable_when_the_model_answers_a_null(engine, nullable):
    sample = sample_of({"a": [1.0, 2.0]})
    inferred = infer_signature(artifact(engine, feature_names=("a",)), sample)

    assert inferred.signature.inputs[0].nullable is nullable


def test_nulls_are_tried_column_by_column():
    class Half(Summing):
        def run(self, inputs):
            return super().run({"a": inputs["a"], "b": np.nan_to_num(inputs["b"])})

    sample = sample_of({"a": [1.0, 2.0], "b": [1.0, 2.0]})
    found = infer_signature(artifact(Half(), feature_names=("a", "b")), sample).signature

    assert [field.nullable for field in found.inputs] == [False, True]


def test_a_declared_null_rule_is_not_tried():
    overrides = parse_overrides("inputs: {a: {nullable: false}}")
    sample = sample_of({"a": [1.0, 2.0]})
    inferred = infer_signature(
        artifact(Tolerant(), feature_names=("a",)), sample, overrides=overrides
    )

    assert not inferred.signature.inputs[0].nullable


def test_refusing_tried_nulls_keeps_those_of_the_sample():
    sample = sample_of({"a": [1.0, None], "b": [1.0, 2.0]})
    inferred = infer_signature(artifact(Tolerant(), feature_names=("a", "b")), sample)

    strict = inferred.refusing_tried_nulls()

    assert [field.nullable for field in inferred.signature.inputs] == [True, True]
    assert [field.nullable for field in strict.signature.inputs] == [True, False]
    assert "`b`" in strict.notes[-1]


@pytest.mark.parametrize(
    ("engine", "batchable"), [(Summing(), True), (Centering(), False), (Summarizing(), False)]
)
def test_rows_are_stacked_only_when_they_do_not_know_of_each_other(engine, batchable):
    sample = sample_of(np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 7.0]]))
    found = infer_signature(artifact(engine, feature_count=2), sample).signature

    assert found.batchable is batchable


def test_a_sample_of_one_row_still_tells_whether_outputs_follow():
    sample = sample_of(np.array([[1.0, 2.0]]))

    assert infer_signature(artifact(Summing(), feature_count=2), sample).signature.batchable
    found = infer_signature(artifact(Summarizing(), feature_count=2), sample).signature
    assert not found.batchable


def test_a_table_is_stacked_for_a_model_of_a_matrix_and_a_matrix_split_for_one_of_columns():
    table = sample_of({"a": [1, 2], "b": [3.0, 4.0]})
    matrix = sample_of(np.array([[1.0, 3.0], [2.0, 4.0]]))

    stacked = infer_signature(artifact(Summing(), feature_count=2), table)
    split = infer_signature(artifact(Summing(), feature_names=("a", "b")), matrix)

    assert stacked.sample is not None
    assert stacked.sample.inputs["X"].tolist() == [[1, 3], [2, 4]]
    assert stacked.sample.inputs["X"].dtype == np.float32
    assert split.sample is not None
    assert split.sample.inputs["b"].tolist() == [3, 4]


def test_a_sample_of_another_width_is_refused():
    table = sample_of({"a": [1], "b": [2], "churn": [0]})

    with pytest.raises(InvalidRequest, match=r"takes 2 features.*3 columns.*`churn`"):
        infer_signature(artifact(Summing(), feature_count=2), table)


def test_a_sample_without_a_column_of_the_model_is_refused():
    with pytest.raises(InvalidRequest, match="no column `b`"):
        infer_signature(artifact(Summing(), feature_names=("a", "b")), sample_of({"a": [1.0]}))


OWN = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="input", dtype=DataType.FP32, shape=(-1, 2)),),
    outputs=(Field(name="prediction", dtype=DataType.FP32),),
)


def test_the_formats_own_signature_is_the_base_and_the_sample_adds_the_range():
    known = artifact(Summing(), format=Format.ONNX, signature=OWN)
    found = infer_signature(known, sample_of({"a": [1.0, 2.0], "b": [3.0, 4.0]})).signature

    assert found.inputs == (
        Field(name="input", dtype=DataType.FP32, shape=(-1, 2), minimum=1.0, maximum=4.0),
    )
    assert found.outputs == OWN.outputs


def test_a_fixed_batch_is_not_stacked():
    fixed = Signature(
        layout=Layout.TENSORS,
        inputs=(Field(name="input", dtype=DataType.FP32, shape=(1, 2)),),
        outputs=(Field(name="prediction", dtype=DataType.FP32, shape=(1,)),),
    )
    known = artifact(Summing(), format=Format.ONNX, signature=fixed)
    inferred = infer_signature(known, sample_of(np.ones((5, 2))))

    assert not inferred.signature.batchable
    assert inferred.sample is not None
    assert inferred.sample.rows == 1


def test_a_model_of_unknown_inputs_needs_a_sample_or_declarations():
    with pytest.raises(InvalidArtifact, match="Nothing tells"):
        infer_signature(artifact(Summing(), format=Format.PYTHON), None)

    overrides = parse_overrides("inputs: {a: {dtype: FP64}}")
    found = infer_signature(
        artifact(Summing(), format=Format.PYTHON), None, overrides=overrides
    ).signature
    assert found.input_names() == ("a",)


def test_a_model_that_refuses_the_sample_is_refused_in_its_own_words():
    sample = sample_of({"a": [1.0, None]})

    with pytest.raises(InvalidArtifact, match="ValueError: Input contains NaN"):
        infer_signature(artifact(Summing(), feature_names=("a",)), sample)


def test_a_sample_that_breaks_a_declared_rule_is_refused():
    overrides = parse_overrides("inputs: {a: {maximum: 1}}")

    with pytest.raises(InvalidInput, match="row 1"):
        infer_signature(
            artifact(Summing(), feature_names=("a",)),
            sample_of({"a": [1.0, 2.0]}),
            overrides=overrides,
        )


def test_numbers_declared_as_text_are_spelled_out():
    overrides = parse_overrides("inputs: {zip: {dtype: STRING}}")
    inferred = infer_signature(
        artifact(Tolerant(), feature_names=("zip",)),
        sample_of({"zip": [12345, 67890]}),
        overrides=overrides,
    )

    assert inferred.sample is not None
    assert inferred.sample.inputs["zip"].tolist() == ["12345", "67890"]
