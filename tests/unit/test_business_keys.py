"""A business key that comes with feedback is kept as the log has it, whatever its input's rule is."""

from types import SimpleNamespace

import numpy as np
import pytest

from shipway.core.captures import Shape
from shipway.core.capturing import Capture, How, Reading, Redact
from shipway.core.redaction import Redaction
from shipway.core.signature import Field
from shipway.core.strategies import Source
from shipway.core.tensors import DataType
from shipway.gateway.recording import LONGEST_TEXT, key_as_kept, reader

KEYS = {
    "customer": np.array(["Ada"], dtype=object),
    "number": np.array([4711]),
    "size": np.array([4711.0]),
}
DTYPES = {"customer": DataType.STRING, "number": DataType.INT64, "size": DataType.FP64}


def shape_of(each=(-1,)):
    """Three inputs of that shape each."""
    return Shape(
        environment="dev",
        endpoint="churn",
        model="churn",
        version=1,
        inputs=tuple(Field(name=name, dtype=dtype, shape=each) for name, dtype in DTYPES.items()),
        outputs=(),
    )


def kept_and_logged(capture, said, *, inputs, each=(-1,)):
    """The key of feedback as it is kept, and that of a prediction as the log has it."""
    redaction = Redaction(capture, b"k" * 32)
    kept = key_as_kept(capture.key, shape_of(each), redaction)(said)
    return kept, reader(capture.key, redaction)(None, inputs)


@pytest.mark.parametrize("each", [(-1,), (-1, 1)])
@pytest.mark.parametrize("how", [None, *How])
@pytest.mark.parametrize(
    ("name", "said"), [("customer", "Ada"), ("number", "4711"), ("size", "4711")]
)
def test_key_of_feedback_is_that_of_the_log(how, name, said, each):
    rules = () if how is None else (Redact(field=name, how=how),)
    capture = Capture(redact=rules, key=Reading(by=Source.INPUT, name=name))
    inputs = {name: KEYS[name].reshape(each)}
    kept, logged = kept_and_logged(capture, said, inputs=inputs, each=each)
    assert kept == logged
    assert (said == logged) == (how is None)
    if name != "customer":
        assert kept_and_logged(capture, f"[{said}]", inputs=inputs, each=each) == (kept, logged)


def test_key_of_a_row_of_several_values_is_that_of_the_log():
    capture = Capture(key=Reading(by=Source.INPUT, name="size"))
    inputs = {"size": np.arange(100.0).reshape(1, 100)}
    said = str(np.arange(100.0).tolist())
    kept, logged = kept_and_logged(capture, said, inputs=inputs, each=(-1, 100))
    assert kept == logged == said[:LONGEST_TEXT] != said


@pytest.mark.parametrize("by", [Source.HEADER, Source.INPUT])
def test_long_key_of_feedback_is_cut_as_in_the_log(by):
    said = "c" * (LONGEST_TEXT + 30)
    capture = Capture(key=Reading(by=by, name="customer"))
    sent = SimpleNamespace(headers={b"customer": said.encode()})
    inputs = {"customer": np.array([said], dtype=object)}
    redaction = Redaction(capture, b"k" * 32)
    logged = reader(capture.key, redaction)(sent, inputs)
    assert key_as_kept(capture.key, shape_of(), redaction)(said) == logged == said[:LONGEST_TEXT]


@pytest.mark.parametrize("said", ["Ada", "99999999999999999999"])
def test_key_that_is_no_number_of_a_numeric_input_is_left_as_it_is(said):
    capture = Capture(key=Reading(by=Source.INPUT, name="number"))
    assert key_as_kept(capture.key, shape_of(), Redaction(capture, b"k" * 32))(said) == said


def test_key_in_a_header_is_kept_as_it_is():
    capture = Capture(key=Reading(by=Source.HEADER, name="x-customer"))
    assert key_as_kept(capture.key, shape_of(), Redaction(capture, b"k" * 32))("Ada") == "Ada"
