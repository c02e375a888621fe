"""ONNX, boosters and `torch.export`: data that lies outside, foreign operators, and texts that are code."""

import json
import sys
from pathlib import Path

import msgspec
import onnx
import pytest
from onnx import TensorProto, helper

sys.path.insert(0, str(Path(__file__).parent))
from scanning import report_of
from test_scan_archives import zipped

from shipway.bundles.scanning.bundle import Rules
from shipway.core.bundles import EnvironmentLock, Format, OnnxForm, Served
from shipway.core.errors import InvalidArtifact
from shipway.core.registry import check_paths
from shipway.core.scans import Danger, Substance
from shipway.testing.bundles import manifest_of


def tensor(name="w", **external) -> onnx.TensorProto:
    made = helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])
    if external:
        made.ClearField("float_data")
        made.data_location = TensorProto.EXTERNAL
        for key, value in external.items():
            made.external_data.add(key=key, value=value)
    return made


def graph(*nodes, initializers=(), name="g"):
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    nodes = nodes or (helper.make_node("Identity", ["x"], ["y"]),)
    return helper.make_graph(list(nodes), name, [value], [out], list(initializers))


def model(*nodes, initializers=(), **fields) -> bytes:
    return helper.make_model(graph(*nodes, initializers=initializers), **fields).SerializeToString()


def node(operator="Identity", domain="", **attributes):
    return helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)


def sparse(values) -> onnx.GraphProto:
    made = graph()
    made.sparse_initializer.add(values=values, dims=[2])
    return made


def of_graph(made) -> bytes:
    return helper.make_model(made).SerializeToString()


def trained(made) -> bytes:
    whole = helper.make_model(graph())
    whole.training_info.add(algorithm=made)
    return whole.SerializeToString()


def with_function(domain: str, *, operator: str, inner_domain: str = "") -> bytes:
    function = helper.make_function(
        domain, operator, ["x"], ["y"], [node(domain=inner_domain)],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    return model(node(operator, domain), functions=[function])


def nested(depth: int) -> bytes:
    made = graph()
    for _ in range(depth):
        made = graph(helper.make_node("If", ["x"], ["y"], then_branch=made, else_branch=graph()))
    return of_graph(made)


def found_in(directory, data, *, rules=None, files=None, path="model/m.onnx"):
    files = {path: data, "model/m.data": b"\0" * 64, "secret.txt": b"\0" * 64, **(files or {})}
    report = report_of(directory, files, format=Format.ONNX, artifact=path, rules=rules)
    return report.findings


TWO_PLACES = tensor(location="m.data")
TWO_PLACES.external_data.add(key="location", value="/etc/passwd")
SOUND = model()

REFUSED = {
    "data at an absolute path": (model(initializers=[tensor(location="/etc/passwd")]), Danger.OUTSIDE),
    "data above": (model(initializers=[tensor(location="../secret.txt")]), Danger.OUTSIDE),
    "data above, the long way": (model(initializers=[tensor(location="a/../../secret.txt")]), Danger.OUTSIDE),
    "data that is not in the bundle": (model(initializers=[tensor(location="other.data")]), Danger.OUTSIDE),
    "data at no path": (model(initializers=[tensor(offset="0")]), Danger.OUTSIDE),
    "data at two paths": (model(initializers=[TWO_PLACES]), Danger.OUTSIDE),
    "data past the end": (
        model(initializers=[tensor(location="m.data", offset="60", length="8")]), Danger.OUTSIDE),
    "data at a negative place": (
        model(initializers=[tensor(location="m.data", offset="-8")]), Danger.OUTSIDE),
    "data of an attribute": (model(node(value=tensor(location="../x"))), Danger.OUTSIDE),
    "data of several in an attribute": (model(node(value=[tensor(location="../x")])), Danger.OUTSIDE),
    "data of a sparse tensor": (of_graph(sparse(tensor(location="../x"))), Danger.OUTSIDE),
    "data in a branch": (
        model(node("If", then_branch=graph(initializers=[tensor(location="../x")]), else_branch=graph())),
        Danger.OUTSIDE),
    "data in a training graph": (trained(graph(initializers=[tensor(location="../x")])), Danger.OUTSIDE),
    "a custom operator": (model(node("Run", "evil.ops")), Danger.OPERATOR),
    "a custom operator under a known name": (model(node("Identity", "evil.ops")), Danger.OPERATOR),
    "a custom operator in a branch": (
        model(node("If", then_branch=graph(node("Run", "evil.ops")), else_branch=graph())), Danger.OPERATOR),
    "a custom operator in a loop": (model(node("Loop", body=graph(node("Run", "evil.ops")))), Danger.OPERATOR),
    "a custom operator in a training graph": (trained(graph(node("Run", "evil.ops"))), Danger.OPERATOR),
    "a custom operator in a function": (
        with_function("mine", operator="Net", inner_domain="evil.ops"), Danger.OPERATOR),
    "onnxruntime-extensions": (model(node("PyCustomOpDef", "ai.onnx.contrib")), Danger.OPERATOR),
    "a compiled context": (model(node("EPContext", "com.microsoft")), Danger.OPERATOR),
    "Python": (model(node("PythonOp", "com.microsoft")), Danger.OPERATOR),
    "branches within branches": (nested(20), Danger.BOMB),
    "an endless operator": (model(node("x" * 5000)), Danger.BOMB),
    "a field past the end": (SOUND[:-3], Danger.UNREADABLE),
    "a group": (SOUND + b"\x0b\x0c", Danger.UNREADABLE),
    "a field of number 0": (SOUND + b"\x00\x00", Danger.UNREADABLE),
    "a number without end": (SOUND + b"\x08" + b"\xff" * 12, Danger.UNREADABLE),
    "a model of ONNX Runtime's own format": (b"\x1c\0\0\0ORTM" + b"\0" * 64, Danger.UNREADABLE),
    "no protobuf": (b"<html>", Danger.UNREADABLE),
}  # fmt: skip


@pytest.mark.parametrize(("data", "danger"), REFUSED.values(), ids=REFUSED)
def test_graph_is_refused(tmp_path, data, danger):
    assert danger in {one.danger for one in found_in(tmp_path, data)}


@pytest.mark.parametrize(
    "data",
    [
        SOUND,
        model(initializers=[tensor()]),
        model(initializers=[tensor(location="m.data", offset="8", length="8")]),
        model(initializers=[tensor(location="deep/w.bin")]),
        with_function("mine", operator="Net"),
        model(node("FusedMatMul", "com.microsoft")),
        model(node("TreeEnsemble", "ai.onnx.ml")),
    ],
)
def test_sound_graph_is_let_in(tmp_path, data):
    assert found_in(tmp_path, data, files={"model/deep/w.bin": b"\0" * 64}) == ()


def test_administrator_allows_a_domain_by_its_whole_name(tmp_path):
    data = model(node("Run", "mine.ops"))
    assert found_in(tmp_path / "a", data, rules=Rules(domains=("mine.ops",))) == ()
    assert found_in(tmp_path / "b", data, rules=Rules(domains=("mine",))) != ()
    python = model(node("PythonOp", "com.microsoft"))
    assert found_in(tmp_path / "c", python, rules=Rules(domains=("com.microsoft",))) != ()


def test_graph_that_is_served_is_read_whatever_its_name(tmp_path):
    data = model(node("Run", "evil.ops"))
    form = OnnxForm(path="onnx/graph", feeds=(), outputs={})
    files = {"model/m.bin": b"", "onnx/graph": data}
    report = report_of(tmp_path, files, onnx=form, served=Served.ONNX)
    assert [one.danger for one in report.findings] == [Danger.OPERATOR]
    assert report.substance is Substance.DATA


def test_link_beside_a_graph_is_no_file_of_the_bundle(tmp_path):
    files = {
        "model/m.onnx": model(initializers=[tensor(location="m.data")]),
        "model/m.data": b"\0" * 64,
    }
    manifest = manifest_of(files, format=Format.ONNX)
    for path, data in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    (tmp_path / "model/m.data").unlink()
    (tmp_path / "model/m.data").symlink_to("/etc/hostname")
    from shipway.bundles.scanning.bundle import BundleScan

    found = BundleScan(tmp_path, manifest, Rules()).run().findings
    assert Danger.OUTSIDE in {one.danger for one in found}


BOOSTERS = {
    "JSON nested too deeply": b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "JSON nested too deeply behind texts": b'{"a]]]]": "[\\"", "b":'
    + b"[" * 100
    + b"]" * 100
    + b"}",
    "UBJSON nested too deeply": b"{i\1a" + b"[" * 100 + b"]" * 100 + b"}",
    "UBJSON past its end": b"{i\1a[$d#l\x7f\xff\xff\xff",
    "UBJSON of a negative length": b"{i\xff",
}


@pytest.mark.parametrize("data", BOOSTERS.values(), ids=BOOSTERS)
def test_booster_is_refused(tmp_path, data):
    files = {"model/m.json": data}
    assert report_of(tmp_path, files, format=Format.XGBOOST).findings != ()


def test_brackets_within_texts_are_no_nesting(tmp_path):
    data = json.dumps({"a": "[" * 500, "b": '"[[' * 100}).encode()
    assert report_of(tmp_path, {"model/m.json": data}, format=Format.XGBOOST).findings == ()


EXPRESSIONS = {
    "__import__('os').system('id')": False,
    "exec(chr(111) + chr(115))": False,
    "().__class__.__bases__": False,
    "s0.func(1)": False,
    "(lambda: s0)()": False,
    "[x for x in s0]": False,
    "open('x')": False,
    "'a'.join(s0)": False,
    "s0 + 2*s1": True,
    "Max(1, s0) - FloorDiv(s1, 2)": True,
    "Symbol('s31', positive=True, integer=True)": True,
    "0.5*ToFloat(s0)": True,
}


@pytest.mark.parametrize(("expression", "is_sound"), EXPRESSIONS.items())
def test_expression_of_an_exported_program_is_arithmetic(tmp_path, expression, is_sound):
    program = json.dumps({"graph": [{"as_expr": {"expr_str": expression}}]})
    files = {"model/m.pt2": zipped([("m/models/model.json", program)])}
    found = report_of(tmp_path, files, format=Format.TORCH_EXPORT).findings
    assert (found == ()) is is_sound


@pytest.mark.parametrize(
    "line",
    [
        "evil @ https://example.invalid/x.whl",
        "--index-url=http://x",
        "-r x",
        "numpy",
        "a==1; b",
        "a==1 # b",
    ],
)
def test_environment_names_plain_packages(tmp_path, line):
    lock = EnvironmentLock(python="3.11", requirements=(line,))
    (found,) = report_of(tmp_path, {"model/m.bin": b""}, environment=lock).findings
    assert (found.danger, found.name) == (Danger.OUTSIDE, line)


@pytest.mark.parametrize(
    "content",
    [
        {"artifact": "../other/model.bin"},
        {"artifact": "/etc/passwd"},
        {"examples": "../../run/up.json"},
        {"profile": "missing.json"},
        {"onnx": OnnxForm(path="../x.onnx", feeds=(), outputs={})},
        {"options": {"code": ".."}},
        {"options": {"code": "../../../tmp"}},
        {"options": {"code": "/tmp"}},
        {"options": {"inner": "../../x.pkl", "inner_format": "sklearn"}},
    ],
)
def test_manifest_names_only_what_is_in_the_bundle(content):
    with pytest.raises(InvalidArtifact):
        check_paths(manifest_of({"model/m.bin": b"", "model/code/x.py": b""}, **content))


def test_manifest_may_name_directories_of_the_bundle():
    files = {"model/MLmodel": b"", "model/in/m.pkl": b"", "model/in/code/x.py": b""}
    options = {"inner": "in/m.pkl", "inner_format": "sklearn", "code": "code"}
    check_paths(manifest_of(files, artifact="model", options=options))
    check_paths(manifest_of({"model/m.pkl": b"", "model/code/x.py": b""}, options={"code": "code"}))


@pytest.mark.parametrize(
    ("content", "substance"),
    [
        ({"served": Served.ONNX}, Substance.DATA),
        ({"format": Format.ONNX}, Substance.DATA),
        ({"format": Format.XGBOOST}, Substance.DATA),
        ({"format": Format.XGBOOST, "options": {"pickled": True}}, Substance.PICKLE),
        ({"format": Format.LIGHTGBM, "options": {"pickled": 1}}, Substance.PICKLE),
        ({"format": Format.SKLEARN}, Substance.PICKLE),
        ({"format": Format.TORCHSCRIPT}, Substance.PROGRAM),
        ({"format": Format.TORCH_EXPORT}, Substance.PROGRAM),
        ({"format": Format.PYTHON}, Substance.CODE),
        ({"format": Format.MLFLOW}, Substance.CODE),
        ({"format": Format.MLFLOW, "options": {"inner": "a", "inner_format": "onnx"}}, Substance.DATA),
        ({"format": Format.MLFLOW, "options": {"inner": "a", "inner_format": "python"}}, Substance.CODE),
        ({"format": Format.MLFLOW, "options": {"inner": "a", "inner_format": "?"}}, Substance.CODE),
    ],
)  # fmt: skip
def test_substance_is_what_serving_loads(content, substance):
    from shipway.core.scans import substance_of

    assert substance_of(manifest_of(**content).content) is substance
    with_source = {**content, "files_in_manifest": (msgspec.structs.replace(
        manifest_of().content.files[0], path="model/x.py"),)}  # fmt: skip
    expected = substance if content.get("served") is Served.ONNX else Substance.CODE
    assert substance_of(manifest_of(**with_source).content) is expected
