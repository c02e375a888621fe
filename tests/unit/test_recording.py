"""What an entry of the prediction log must be, so that control can make rows of it."""

import msgspec
import numpy as np
import pytest

from shipway.core.captures import Shape
from shipway.core.capturing import Capture
from shipway.core.inference import InferenceRequest
from shipway.core.redaction import NOTHING
from shipway.core.signature import Field
from shipway.core.tensors import DataType, data_type_of
from shipway.gateway.counters import Row
from shipway.gateway.http import Request
from shipway.gateway.recording import Recorder
from shipway.wire.packed import packed_frames
from shipway.wire.spool import frame, segment_head

SENT = Request("POST", b"/", {})
TOLD = (1_700_000_000_000_000, "r", 0, 1, "", "", "")


def recorder(*, batchable=True, spool=None):
    shape = Shape(
        environment="dev", endpoint="e", model="m", version=1, batchable=batchable,
        inputs=(Field(name="x", dtype=DataType.FP64),),
        outputs=(Field(name="label", dtype=DataType.STRING), Field(name="raw", dtype=DataType.BYTES)),
    )  # fmt: skip
    return Recorder(Capture(), shape, spool=spool, redaction=NOTHING, row=Row())


def texts(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def entry(x=(1.0, 2.0, 3.0), **outputs):
    return TOLD, {"x": np.array(x)}, outputs


def arrays_in(of, payload):
    data = segment_head(bytes(16)) + frame(of.opening()) + frame(payload)
    (_, (_, found)) = packed_frames(data)
    return found.arrays


@pytest.mark.parametrize(
    "outputs",
    [
        {"label": texts("a")},
        {"label": np.array("a")},
        {"label": texts("a", b"b", "c")},
        {"label": texts("a", 2, "c")},
        {"label": np.array([1, 2, 3], "M8[D]")},
        {"label": np.array([1, 2, 3], np.longdouble)},
        {"label": np.array([["a", "b"]] * 3)},
        {"raw": texts(b"a", 1, b"c")},
    ],
)
def test_what_control_could_not_keep_is_not_written(outputs):
    of = recorder()
    with pytest.raises((TypeError, ValueError)):
        of.payload(entry(**outputs))
    whole = {"label": texts(*"abc"), "raw": texts(b"a", b"b", b"c")}
    assert of.batch([entry(**whole), entry(**(whole | outputs))]) is None


@pytest.mark.parametrize("together", [False, True])
def test_a_nan_among_texts_is_null_and_a_text_among_bytes_its_bytes(together):
    of = recorder()
    one = entry(label=texts("a", float("nan"), "c"), raw=texts(b"a", None, "ü"))
    payload = of.batch([one]) if together else of.payload(one)
    _, label, raw = arrays_in(of, payload)
    assert label[2] == ["a", None, "c"]
    assert raw[2] == [b"a", None, "ü".encode()]


def test_a_prediction_without_rows_has_arrays_of_any_length_where_they_are_lists():
    of = recorder(batchable=False)
    assert arrays_in(of, of.payload(entry(label=texts("a"))))[1][2] == ["a"]


class Sizes:
    """A spool that notes how large entries say that they are."""

    def __init__(self):
        self.found = []

    def offer(self, source, entry, size_bytes):
        self.found.append(size_bytes)


@pytest.mark.parametrize(
    ("x", "label", "least"),
    [(np.zeros(1), texts("a" * 50_000), 50_000), (np.zeros(5000), texts("a"), 40_000)],
)
def test_an_entry_says_what_it_keeps_in_memory(x, label, least):
    spool = Sizes()
    of = recorder(spool=spool)
    of.begin(SENT, InferenceRequest(inputs={}), {"x": x}, "").keep({"label": label}, 0, 0.0)
    assert least < spool.found[0] < 2 * least


@pytest.mark.parametrize("rows", [1, 7, 5000])
@pytest.mark.parametrize("inner", [(), (3,), (2, 4)])
def test_an_entry_of_numbers_says_what_its_arrays_hold_without_asking_each(rows, inner):
    columns = {f"x{n}": np.zeros(rows, np.float32) for n in range(6)} | {"m": np.zeros((rows, 5))}
    made = {"vector": np.zeros((rows, *inner)), "label": np.zeros(rows, np.int64)}
    fields = {
        name: Field(name=name, dtype=data_type_of(array), shape=(-1, *array.shape[1:]))
        for name, array in (columns | made).items()
    }
    shape = msgspec.structs.replace(
        recorder().shape,
        inputs=tuple(fields[name] for name in columns),
        outputs=tuple(fields[name] for name in made),
    )
    of = Recorder(Capture(), shape, spool=None, redaction=NOTHING, row=Row())
    held = sum(array.nbytes for array in (columns | made).values())
    assert of.size_of(SENT, columns, made) - of.size_of(SENT, {}, {}) == held
