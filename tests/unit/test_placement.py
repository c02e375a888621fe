"""Where a version runs, and why."""

import msgspec
import pytest

from shipway.core.bundles import Feed, Format, OnnxForm, ParityReport, Served
from shipway.core.endpoints import Placement
from shipway.core.errors import InvalidSpec
from shipway.core.placement import LARGEST_INLINE_BYTES, SLOWEST_INLINE_MS, placed
from shipway.testing.bundles import manifest_of

ONNX = OnnxForm(
    path="onnx/model.onnx",
    feeds=(Feed(graph_input="x", dtype="FP64", columns=("x",)),),
    outputs={"y": "y"},
)


def manifest(size=10, *, served=Served.ONNX, row_ms=None):
    files = {"model/model.bin": b"x", "onnx/model.onnx": b"y"}
    made = manifest_of(files, served=served, onnx=ONNX, format=Format.SKLEARN)
    replace = msgspec.structs.replace
    big = tuple(
        replace(f, size_bytes=size) if f.path.startswith("onnx/") else f for f in made.content.files
    )
    report = ParityReport(holds=True, reason="", onnx_ms=row_ms)
    provenance = replace(made.provenance, parity=report)
    return replace(made, content=replace(made.content, files=big), provenance=provenance)


@pytest.mark.parametrize(
    ("placement", "size", "row_ms", "inline", "word"),
    [
        (Placement.AUTO, 10, None, True, "not measured"),
        (Placement.AUTO, 10, SLOWEST_INLINE_MS, True, "0.08 ms a row"),
        (Placement.AUTO, 10, SLOWEST_INLINE_MS * 1.1, False, "0.088 ms when packaged"),
        (Placement.AUTO, LARGEST_INLINE_BYTES, 0.01, True, "67,108,864 bytes"),
        (Placement.AUTO, LARGEST_INLINE_BYTES + 1, 0.01, False, "67,108,865 bytes"),
        (Placement.INLINE, LARGEST_INLINE_BYTES + 1, 9.0, True, "the spec says `inline`"),
        (Placement.PROCESS, 10, 0.01, False, "the spec says `process`"),
    ],
)
def test_small_and_fast_onnx_runs_inline_unless_told_otherwise(
    placement, size, row_ms, inline, word
):
    place = placed(placement, manifest(size, row_ms=row_ms))
    assert place.inline is inline
    assert word in place.reason


def test_memory_that_must_come_back_is_a_processs():
    assert not placed(Placement.AUTO, manifest(row_ms=0.01), releases_memory=True).inline
    assert placed(Placement.INLINE, manifest(row_ms=0.01), releases_memory=True).inline


def test_code_never_runs_inline():
    original = manifest(served=Served.ORIGINAL)
    assert not placed(Placement.AUTO, original).inline
    with pytest.raises(InvalidSpec, match="cannot run `inline`"):
        placed(Placement.INLINE, original)
