"""A business key that comes with feedback is kept as the log has it, whatever its input's rule is."""

import numpy as np
import pytest

from shipway.core.captures import Shape
from shipway.core.capturing import Capture, How, Reading, Redact
from shipway.core.redaction import Redaction
from shipway.core.signature import Field
from shipway.core.strategies import Source
from shipway.core.tensors import DataType
from shipway.gateway.recording import key_as_kept, reader

SHAPE = Shape(
    environment="dev",
    endpoint="churn",
    model="churn",
    version=1,
    inputs=(
        Field(name="customer", dtype=DataType.STRING),
        Field(name="number", dtype=DataType.INT64),
    ),
    outputs=(),
)
INPUTS = {"customer": np.array(["Ada"], dtype=object), "number": np.array([4711])}


@pytest.mark.parametrize("how", [None, *How])
@pytest.mark.parametrize(("name", "said"), [("customer", "Ada"), ("number", "4711")])
def test_key_of_feedback_is_that_of_the_log(how, name, said):
    rules = () if how is None else (Redact(field=name, how=how),)
    capture = Capture(redact=rules, key=Reading(by=Source.INPUT, name=name))
    redaction = Redaction(capture, b"k" * 32)
    logged = reader(capture.key, redaction)(None, INPUTS)
    assert key_as_kept(capture.key, SHAPE, redaction)(said) == logged
    assert (said in logged) == (how is None)


@pytest.mark.parametrize("said", ["Ada", "99999999999999999999"])
def test_key_that_is_no_number_of_a_numeric_input_is_left_as_it_is(said):
    capture = Capture(key=Reading(by=Source.INPUT, name="number"))
    assert key_as_kept(capture.key, SHAPE, Redaction(capture, b"k" * 32))(said) == said


def test_key_in_a_header_is_kept_as_it_is():
    capture = Capture(key=Reading(by=Source.HEADER, name="x-customer"))
    assert key_as_kept(capture.key, SHAPE, Redaction(capture, b"k" * 32))("Ada") == "Ada"
