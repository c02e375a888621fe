"""Every format from a file to an answer, through a real control, gateway and replica."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from artifacts import MAKERS

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # the frameworks' own, while they train and save
]


def assert_same(answer, expected, tolerance):
    for name, wanted in expected.items():
        got = answer.outputs[name]
        if wanted.dtype.kind in "fiu":
            np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance)
        else:
            assert got.tolist() == wanted.tolist()


@pytest.mark.parametrize("maker", MAKERS, ids=lambda maker: maker.__name__)
def test_model_answers_as_its_own_framework_does(shared, tmp_path, maker):
    artifact = maker(tmp_path)
    name = maker.__name__.replace("_", "-")
    version = shared.client.register(artifact.path, name=name, sample=artifact.sample)
    manifest = shared.client.show(str(version)).manifest
    parity = manifest.provenance.parity
    assert (manifest.content.served == "onnx") == artifact.onnx, parity
    placements = ["process", "inline"] if artifact.onnx else ["process"]
    for placement in placements:
        endpoint = f"{name}-{placement}"[:63]
        shared.client.deploy(str(version), endpoint=endpoint, placement=placement)
        answer = shared.client.predict(endpoint, artifact.sample)
        assert answer.version == "1"
        assert_same(answer, artifact.expected, artifact.tolerance)
        shared.client.delete(endpoint)
