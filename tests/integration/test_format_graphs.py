"""ONNX files and PyTorch archives."""

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from shipway.bundles.formats.detect import detect
from shipway.core.bundles import Format
from shipway.core.errors import ArtifactTruncated, InvalidArtifact, NotAModel
from shipway.core.signature import Layout
from shipway.core.tensors import DataType

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def linear(batch="rows"):
    weights = np.arange(6, dtype=np.float32).reshape(3, 2)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["features", "w"], ["scores"])],
        "linear",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, [batch, 3])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, 2])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, weights


def test_onnx_graph_is_its_own_signature_and_its_own_onnx_form(prepare, tmp_path):
    model, weights = linear()
    path = tmp_path / "looks.joblib"
    onnx.save(model, path)
    rows = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    prepared = prepare(path, {"features": rows})
    assert prepared.artifact.format is Format.ONNX
    assert prepared.artifact.batchable is True
    assert prepared.signature.layout is Layout.TENSORS
    assert prepared.signature.inputs[0].shape == (-1, 3)
    assert prepared.compiled.graph == path.read_bytes()
    assert prepared.parity().holds
    for engine in (prepared.onnx(), prepared.original(tmp_path / "bundle")):
        np.testing.assert_allclose(engine.run({"features": rows})["scores"], rows @ weights)


def test_onnx_graph_with_a_fixed_first_dimension_is_not_batched(tmp_path):
    path = tmp_path / "m"
    onnx.save(linear(batch=4)[0], path)
    artifact = detect(path).open(path, options={})
    assert artifact.batchable is False
    assert not artifact.signature.batchable


def test_maps_of_probabilities_become_a_matrix(prepare, tmp_path):
    features, target = load_iris(return_X_y=True)
    model = LogisticRegression(max_iter=500).fit(features, target)
    path = tmp_path / "m"
    path.write_bytes(to_onnx(model, features[:1].astype(np.float32)).SerializeToString())
    rows = features[:20].astype(np.float32)
    prepared = prepare(path, {"X": rows})
    found = prepared.onnx().run({"X": rows})
    np.testing.assert_allclose(found["output_probability"], model.predict_proba(rows), atol=1e-5)
    assert found["output_label"].tolist() == model.predict(rows).tolist()


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_shortened_onnx_file_is_called_truncated(tmp_path, kept):
    path = tmp_path / "m"
    content = linear()[0].SerializeToString()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArtifactTruncated, match="ends too early"):
        detect(path).open(path, options={})


def test_onnx_with_an_unknown_operator_says_so(tmp_path):
    model, _ = linear()
    model.graph.node[0].op_type = "Conjure"
    path = tmp_path / "m"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArtifact, match="Conjure"):
        detect(path).open(path, options={})


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Linear(4, 3)

    def forward(self, features):
        return self.layers(features)


class Named(Network):
    def forward(self, left, right):
        return {"sum": self.layers(left + right), "difference": left - right}


class Several(Network):
    def forward(self, features):
        return self.layers(features), features.argmax(dim=1)


def exported(module, *arguments):
    rows = torch.export.Dim("rows", min=1, max=1024)
    shapes = tuple({0: rows} for _ in arguments)
    return torch.export.export(module, arguments, dynamic_shapes=shapes)


@pytest.fixture(params=["script", "export"])
def save(request, tmp_path):
    def save(module, *arguments):
        path = tmp_path / "saved.json"
        if request.param == "script":
            torch.jit.save(torch.jit.trace(module, arguments, strict=False), path)
        else:
            with path.open("wb") as file:
                torch.export.save(exported(module, *arguments), file)
        return path

    return save


def tensors(count, rows=6):
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand((rows, 4), generator=generator) for _ in range(count))


def check(prepare, tmp_path, path, module, arguments, names):
    inputs = {n: t.numpy() for n, t in zip(names, arguments, strict=True)}
    prepared = prepare(path, inputs)
    assert prepared.compiled is None
    assert prepared.reason
    assert prepared.signature.batchable
    found = prepared.original(tmp_path / "bundle").run(inputs)
    expected = module(*arguments)
    if isinstance(expected, torch.Tensor):
        expected = {"output_0": expected}
    if isinstance(expected, tuple):
        expected = {f"output_{i}": value for i, value in enumerate(expected)}
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), atol=1e-6)
    assert tuple(f.name for f in prepared.signature.outputs) == tuple(found)


def test_torch_archive_answers_as_its_module(prepare, tmp_path, save):
    arguments = tensors(1)
    path = save(Network().eval(), *arguments)
    check(prepare, tmp_path, path, Network().eval(), arguments, ["features"])


def test_torch_archive_of_several_outputs_numbers_them(prepare, tmp_path, save):
    arguments = tensors(1)
    path = save(Several().eval(), *arguments)
    check(prepare, tmp_path, path, Several().eval(), arguments, ["features"])


def test_torch_archive_takes_and_gives_names(prepare, tmp_path, save):
    arguments = tensors(2)
    path = save(Named().eval(), *arguments)
    check(prepare, tmp_path, path, Named().eval(), arguments, ["left", "right"])


def test_columns_of_a_table_are_stacked_for_a_torch_module(prepare, tmp_path, save):
    (rows,) = tensors(1)
    path = save(Network().eval(), rows)
    table = {name: rows.numpy()[:, i].astype(float) for i, name in enumerate("abcd")}
    artifact = detect(path).open(path, options={})
    found = artifact.engine.run(table)["output_0"]
    np.testing.assert_allclose(found, Network().eval()(rows).detach().numpy(), atol=1e-6)


def test_exported_program_tells_its_signature(tmp_path):
    path = tmp_path / "m"
    with path.open("wb") as file:
        torch.export.save(exported(Network().eval(), *tensors(1)), file)
    signature = detect(path).open(path, options={}).signature
    (given,), (answer,) = signature.inputs, signature.outputs
    assert (given.name, given.dtype, given.shape) == ("features", DataType.FP32, (-1, 4))
    assert (answer.name, answer.shape) == ("output_0", (-1, 3))
    assert signature.batchable


def test_read_only_arrays_of_the_wire_are_taken(save):
    (rows,) = tensors(1)
    path = save(Network().eval(), rows)
    array = np.frombuffer(rows.numpy().tobytes(), dtype=np.float32).reshape(rows.shape)
    assert detect(path).open(path, options={}).engine.run({"features": array})["output_0"].any()


@pytest.mark.parametrize("kept", [0.4, 0.98])
def test_shortened_torch_archive_is_called_truncated(save, kept):
    path = save(Network().eval(), *tensors(1))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ArtifactTruncated):
        detect(path).open(path, options={})


def test_weights_alone_are_no_model_and_the_answer_says_what_to_save(tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(Network().state_dict(), path)
    with pytest.raises(NotAModel, match=r"torch\.export\.save"):
        detect(path)
