"""`model.yaml`: strict, and with the place of every mistake."""

import msgspec
import pytest

from shipway.bundles.overrides import (
    declared_inputs,
    overrides_schema,
    parse_overrides,
    renamed_outputs,
)
from shipway.core.errors import InvalidSpec
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType

WHOLE = """
inputs:
  age: {dtype: FP64, nullable: true, minimum: 0, maximum: 120}
  plan: {categories: [basic, pro]}
output_names: {label: churned}
threshold: 0.4
requirements: [scikit-learn==1.5.2]
metrics: {auc: 0.91}
class: model:Churn
options: {code: src}
drop: [target]
training_data: train.csv
"""

WRONG = {
    "inputs: {age: {dtyp: FP64}}": ("$.inputs.age.dtyp", "Did you mean `dtype`"),
    "inputs: {age: {dtype: float64}}": ("$.inputs.age.dtype", "Did you mean `FP64`"),
    "treshold: 0.3": ("$.treshold", "Did you mean `threshold`"),
    "threshold: 3": ("$.threshold", "<= 1.0"),
    "- 1": ("$", "expected `object`"),
    "inputs: {age: 3}": ("$.inputs.age", "expected `object`"),
    "metrics: {auc: high}": ("$.metrics[...]", "expected `float`"),
}


def test_the_whole_file_is_read():
    overrides = parse_overrides(WHOLE)

    assert overrides.inputs["age"].declared() == {
        "dtype": DataType.FP64,
        "nullable": True,
        "minimum": 0.0,
        "maximum": 120.0,
    }
    assert overrides.format_options() == {"code": "src", "class": "model:Churn"}


def test_an_empty_file_declares_nothing():
    assert parse_overrides("") == parse_overrides("{}")


@pytest.mark.parametrize("text", WRONG)
def test_a_mistake_is_named_with_its_path_and_a_suggestion(text):
    path, fact = WRONG[text]

    with pytest.raises(InvalidSpec) as caught:
        parse_overrides(text, origin="m.yaml")

    assert fact in str(caught.value)
    assert caught.value.details["path"] == path
    assert "`m.yaml`" in caught.value.message


def test_text_that_is_no_yaml_is_refused_with_its_line():
    with pytest.raises(InvalidSpec, match="line 1"):
        parse_overrides("a: [")


def test_the_schema_names_every_key():
    schema = overrides_schema()

    keys = schema["$defs"]["Overrides"]["properties"]
    assert set(msgspec.yaml.decode(WHOLE)) == set(keys)
    assert schema["$defs"]["Overrides"]["additionalProperties"] is False


AGE = Field(name="age", dtype=DataType.INT64, minimum=1, maximum=9)


def declare(text, *fields):
    return declared_inputs(fields or (AGE,), parse_overrides(text).inputs)


def test_what_is_declared_is_told_apart_from_what_is_inferred():
    (age,) = declare("inputs: {age: {minimum: 0, dtype: FP64}}")

    assert age.declared == ("dtype", "minimum")
    assert (age.dtype, age.minimum, age.maximum) == (DataType.FP64, 0.0, 9)
    assert age.origin_of("maximum") == "inferred"


def test_a_declared_text_forgets_the_range_of_numbers():
    (age,) = declare("inputs: {age: {dtype: STRING}}")

    assert (age.minimum, age.maximum) == (None, None)


def test_declarations_are_the_inputs_when_nothing_was_inferred():
    (age,) = declared_inputs((), parse_overrides("inputs: {age: {dtype: FP64}}").inputs)

    assert age == Field(name="age", dtype=DataType.FP64, declared=("dtype",))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("inputs: {aeg: {minimum: 0}}", "Did you mean `age`"),
        ("inputs: {age: {minimum: 3, maximum: 2}}", "over its maximum"),
        ("inputs: {age: {categories: [a]}}", "categories, and its dtype is INT64"),
        ("inputs: {age: {dtype: STRING, minimum: 0}}", "a range, and its dtype is STRING"),
    ],
)
def test_a_declaration_that_does_not_fit_is_refused(text, fact):
    with pytest.raises(InvalidSpec, match=fact):
        declare(text)


SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(AGE,),
    outputs=(
        Field(name="label", dtype=DataType.INT64),
        Field(name="probabilities", dtype=DataType.FP32, shape=(-1, 2)),
    ),
)


def test_outputs_are_renamed_in_place():
    renamed = renamed_outputs(SIGNATURE, {"label": "churned"})

    assert renamed.output_names() == ("churned", "probabilities")


@pytest.mark.parametrize(
    ("names", "fact"),
    [
        ({"lable": "x"}, "Did you mean `label`"),
        ({"label": "probabilities"}, "two outputs the same name"),
    ],
)
def test_renaming_what_is_not_there_or_twice_is_refused(names, fact):
    with pytest.raises(InvalidSpec, match=fact):
        renamed_outputs(SIGNATURE, names)
