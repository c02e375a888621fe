"""The ONNX engine: feeds, casts, shapes, nulls, threads."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx import TensorProto, helper

from shipway.core.bundles import (
    Content,
    EnvironmentLock,
    Feed,
    Format,
    OnnxForm,
    Served,
)
from shipway.core.errors import BundleCorrupt, EnvironmentFailed
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.engines.load import load_engine
from shipway.engines.onnx import NULL_TEXT, OnnxEngine


def graph_of(nodes, inputs, outputs):
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


def echo(kind, shape):
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    return graph_of(nodes, [("x", kind, shape)], [("y", kind, shape)])


def columns(*fields, outputs=()):
    return Signature(layout=Layout.COLUMNS, inputs=fields, outputs=outputs)


def test_several_columns_are_stacked_in_order_into_one_matrix():
    fields = (
        Field(name="b", dtype=DataType.FP64),
        Field(name="a", dtype=DataType.INT64),
        Field(name="c", dtype=DataType.BOOL),
    )
    feed = Feed(graph_input="x", dtype="FP32", columns=("a", "b", "c"))
    engine = OnnxEngine(
        echo(TensorProto.FLOAT, [None, 3]), signature=columns(*fields), feeds=[feed]
    )
    rows = {
        "c": np.array([True, False]),
        "b": np.array([0.5, np.nan]),
        "a": np.array([1, 2], dtype=np.int64),
    }
    found = engine.run(rows)["y"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, 0.5, 1], [2, np.nan, 0]])


def test_null_texts_become_the_mark_and_others_stay():
    field = Field(name="x", dtype=DataType.STRING, nullable=True)
    engine = OnnxEngine(echo(TensorProto.STRING, [None, 1]), signature=columns(field))
    texts = np.array(["a", None, "é"], dtype=object)
    assert engine.run({"x": texts})["y"].tolist() == [["a"], [NULL_TEXT], ["é"]]
    assert texts.tolist() == ["a", None, "é"]
    assert engine.run({"x": np.array(["b"], dtype=object)})["y"].tolist() == [["b"]]


@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_output_takes_the_shape_and_type_of_the_signature(shape):
    given = Field(name="x", dtype=DataType.FP32)
    wanted = Field(name="prediction", dtype=DataType.FP64, shape=shape)
    engine = OnnxEngine(
        echo(TensorProto.FLOAT, [None, 1]),
        signature=columns(given, outputs=(wanted,)),
        outputs={"prediction": "y"},
    )
    found = engine.run({"x": np.ones(3, dtype=np.float32)})["prediction"]
    assert found.dtype == np.float64
    assert found.shape == (3, *shape[1:])


def test_single_tensor_of_the_right_type_is_handed_on_untouched():
    field = Field(name="x", dtype=DataType.FP32, shape=(-1, 2))
    signature = Signature(layout=Layout.TENSORS, inputs=(field,), outputs=())
    engine = OnnxEngine(echo(TensorProto.FLOAT, [None, 2]), signature=signature)
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    np.testing.assert_array_equal(engine.run({"x": rows})["y"], rows)
    assert engine._single == ("x", "x")
    assert engine._converts == []


def test_wanted_outputs_come_in_the_order_they_are_declared():
    nodes = [helper.make_node("Identity", ["x"], ["p"]), helper.make_node("Neg", ["x"], ["q"])]
    tensor = (TensorProto.FLOAT, [None])
    graph = graph_of(nodes, [("x", *tensor)], [("p", *tensor), ("q", *tensor)])
    field = Field(name="x", dtype=DataType.FP32)
    engine = OnnxEngine(graph, signature=columns(field), outputs={"second": "q", "first": "p"})
    assert list(engine.run({"x": np.ones(1, dtype=np.float32)})) == ["second", "first"]


def test_many_threads_get_their_own_answers():
    field = Field(name="x", dtype=DataType.FP32, shape=(-1, 2))
    signature = Signature(layout=Layout.TENSORS, inputs=(field,), outputs=())
    engine = OnnxEngine(echo(TensorProto.FLOAT, [None, 2]), signature=signature)

    def ask(number):
        rows = np.full((4, 2), number, dtype=np.float32)
        return bool((engine.run({"x": rows})["y"] == number).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(400)))


def content(**changes):
    field = Field(name="x", dtype=DataType.FP32, shape=(-1, 2))
    known = {
        "format": Format.SKLEARN,
        "artifact": "model/m",
        "served": Served.ONNX,
        "signature": Signature(layout=Layout.TENSORS, inputs=(field,), outputs=()),
        "environment": EnvironmentLock(python="3.11", requirements=()),
        "files": (),
    }
    return Content(**(known | changes))


def test_bundle_that_serves_onnx_is_loaded_from_its_onnx_form(tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx/model.onnx").write_bytes(echo(TensorProto.FLOAT, [None, 2]))
    form = OnnxForm(
        path="onnx/model.onnx",
        feeds=(Feed(graph_input="x", dtype="FP32", columns=("x",)),),
        outputs={"features": "y"},
    )
    engine = load_engine(tmp_path, content(onnx=form), threads=2)
    assert isinstance(engine, OnnxEngine)
    assert list(engine.run({"x": np.ones((1, 2), dtype=np.float32)})) == ["features"]


def test_bundle_that_serves_onnx_and_has_none_is_corrupt(tmp_path):
    with pytest.raises(BundleCorrupt):
        load_engine(tmp_path, content())


def test_framework_that_the_environment_lacks_is_named(tmp_path):
    (tmp_path / "m.py").write_text("import catboost\n\n\nclass M:\n    def predict(self, i): ...\n")
    lacking = content(
        format=Format.PYTHON,
        artifact="m.py",
        served=Served.ORIGINAL,
        options={"class": "m:M"},
    )
    with pytest.raises(EnvironmentFailed, match="catboost"):
        load_engine(tmp_path, lacking)
