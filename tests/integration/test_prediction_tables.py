"""Frames in, DuckDB out: whatever a gateway may have written is read back as it was."""

from __future__ import annotations

import math
import struct
import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.core.captures import Role, Shape, columns_of
from shipway.core.signature import Field
from shipway.core.tensors import NUMPY_OF, DataType
from shipway.store.predictions.reading import LogFiles, connected
from shipway.store.predictions.tables import Rows, rows_of
from shipway.store.predictions.writing import batches_of, write_table, write_tables
from shipway.wire.spool import frame, segment_head, shape_payload

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from spooling import NOW, micros, prediction, rows, segment, shape, texts

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def items_of(kind: DataType) -> st.SearchStrategy:
    if kind is DataType.STRING:
        return st.none() | TEXT
    if kind is DataType.BYTES:
        return st.none() | st.binary(max_size=12)
    return hnp.from_dtype(NUMPY_OF[kind])


@st.composite
def fields(draw, prefix: str) -> tuple[Field, ...]:
    count = draw(st.integers(1, 4))
    return tuple(
        Field(
            name=f"{prefix}{place}{draw(st.sampled_from(['', ' ', '.x', 'ü', '_']))}",
            dtype=draw(st.sampled_from(list(DataType))),
            shape=draw(st.sampled_from([(-1,), (-1, -1), (-1, 2), (-1, 2, 2)])),
        )
        for place in range(count)
    )


@st.composite
def arrays(draw, field: Field, count: int):
    shape = (count, *(draw(st.integers(0, 3)) if d < 0 else d for d in field.shape[1:]))
    size = math.prod(shape)
    items = draw(st.lists(items_of(field.dtype), min_size=size, max_size=size))
    if field.dtype.is_numeric:
        return np.array(items, dtype=NUMPY_OF[field.dtype]).reshape(shape)
    return texts(*items).reshape(shape)


@st.composite
def predictions(draw):
    of = Shape(
        environment="dev",
        endpoint="churn",
        model="churn",
        version=draw(st.integers(1, 2**31 - 1)),
        inputs=draw(fields("i")),
        outputs=draw(fields("o")),
    )
    made = []
    for number in range(draw(st.integers(1, 5))):
        count = draw(st.integers(1, 4))
        kept = draw(st.integers(0, 10))
        all_fields = [*of.inputs, *of.outputs]
        given_arrays = {
            field.name: draw(arrays(field, count))
            for place, field in enumerate(all_fields)
            # Now and then a field is absent; the first never, so that rows can be counted.
            if place == 0 or kept != place
        }
        made.append(
            prediction(
                f"{number}-{draw(TEXT)}",
                of=of,
                at=NOW,
                inputs={f.name: given_arrays[f.name] for f in of.inputs if f.name in given_arrays},
                outputs={
                    f.name: given_arrays[f.name] for f in of.outputs if f.name in given_arrays
                },
                role=draw(st.sampled_from(Role)),
                latency_us=draw(st.integers(0, 10**9)),
                principal=draw(TEXT),
                segment=draw(TEXT),
                key=draw(TEXT),
            )
        )
    return made


def value_of(item):
    """What DuckDB gives for one item: NaN is null."""
    if isinstance(item, np.generic):
        item = item.item()
    return None if isinstance(item, float) and math.isnan(item) else item


def expected(one) -> list[dict]:
    ins, outs = columns_of([f.name for f in one.shape.inputs], [f.name for f in one.shape.outputs])
    found = []
    for row in range(one.rows):
        facts = {
            "_request_id": one.request_id or None,
            "_row": row,
            "_at": NOW,
            "_version": one.shape.version,
            "_role": one.role.name.lower(),
            "_latency_ms": struct.unpack("f", struct.pack("f", one.latency_us / 1000))[0],
            "_principal": one.principal or None,
            "_segment": one.segment or None,
            "_key": one.key or None,
        }
        for names, kept, declared in (
            (ins, one.inputs, one.shape.inputs), (outs, one.outputs, one.shape.outputs),
        ):  # fmt: skip
            for field in declared:
                array = kept.get(field.name)
                if array is None:
                    facts[names[field.name]] = None
                elif len(field.shape) > 1:
                    facts[names[field.name]] = [value_of(item) for item in array[row].ravel()]
                else:
                    facts[names[field.name]] = value_of(array[row])
        found.append(facts)
    return found


def read_back(parts: list[Rows]) -> list[dict]:
    with tempfile.TemporaryDirectory() as name:
        groups = []
        for place, part in enumerate(parts):
            path = Path(name) / f"{place}.parquet"
            write_table(part.table, path)
            groups.append((str(path),))
        files = LogFiles(predictions=tuple(groups))
        with connected(files, temp_dir=Path(name) / "tmp") as connection:
            return rows(connection, "SELECT * FROM predictions")


@settings(max_examples=150)
@given(predictions())
def test_what_goes_in_comes_out_whatever_it_is(made):
    read = rows_of(segment(made))
    assert read.frames == len(made)
    found = sorted(read_back(read.rows), key=lambda row: (row["_request_id"], row["_row"]))
    wanted = sorted(
        (row for one in made for row in expected(one)),
        key=lambda row: (row["_request_id"], row["_row"]),
    )
    assert found == wanted


@settings(max_examples=300)
@given(st.data())
def test_bytes_of_strangers_are_read_as_far_as_they_make_sense(data):
    whole = bytearray(segment([prediction("a"), prediction("b"), prediction("c")]))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    read = rows_of(bytes(whole))
    kept = [name for part in read.rows for name in part.table["_request_id"].to_pylist()]
    assert kept == ["a", "b", "c"][: len(kept)]
    assert read.good_bytes <= len(whole)


def sealed(*payload_parts) -> bytes:
    """A segment with a frame of any content whose checksum is right."""
    body = [frame(shape_payload(0, shape())), frame(msgspec.msgpack.encode(payload_parts))]
    return segment_head(b"\2" * 16) + b"".join(body)


AT = micros(NOW)
GOOD = [("<f8", [1], b"\0" * 8), ("O", [1], ["x"])], [("<i8", [1], b"\0" * 8)]


TWO = [([AT] * 2, ["r", "s"], [0] * 2, [1] * 2, [""] * 2, [""] * 2, [""] * 2)]


@pytest.mark.parametrize(
    ("facts", "fields"),
    [
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("<f8", [2], b"\0" * 8), None], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("<f8", [-1], b""), None], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("<f8", [1], ["1234567"]), None], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([None, ("O", [1], [1.5])], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([None, ("O", [1], [b"x"])], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("V8", [1], b"\0" * 8), None], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("nonsense", [1], b"\0"), None], [None])),
        ((1, 0, AT, "r", 0, 1, "", "", ""), ([("<f8", [1], b"\0" * 8)], [None])),
        ((1, 0, AT, "r", 9, 1, "", "", ""), GOOD),
        ((1, 7, AT, "r", 0, 1, "", "", ""), GOOD),
        ((1, 0, -1, "r", 0, 1, "", "", ""), GOOD),
        ((1, 0, 2**62, "r", 0, 1, "", "", ""), GOOD),
        ((1, 0, AT, "r", 0, 1, "", ""), GOOD),
        ((4, 0, [1, 2], *TWO), ([("<f8", [2], b"\0" * 16), None], [None])),
        ((1,), ()),
        ((), ()),
    ],
)
def test_a_frame_that_says_nonsense_is_not_taken(facts, fields):
    read = rows_of(sealed(*facts, *fields))
    assert (read.frames, read.rows) == (0, [])


def test_the_good_frames_of_that_table_are_taken():
    assert rows_of(sealed(1, 0, AT, "r", 0, 1, "", "", "", *GOOD)).frames == 1
    three = [("<f8", [3], b"\0" * 24), None], [None]
    assert rows_of(sealed(4, 0, [1, 2], *TWO, *three)).frames == 1


@pytest.mark.parametrize(
    "facts", [{"model": "x" * 64}, {"model": "a/b"}, {"version": 2**31}, {"version": 0}]
)
def test_a_shape_that_the_catalogue_could_not_hold_is_not_taken(facts):
    of = msgspec.structs.replace(shape(), **facts)
    assert rows_of(segment([prediction(of=of)])).rows == []


def test_a_hashed_number_is_a_text_and_the_plain_ones_beside_it_stay():
    of = shape(age=DataType.FP64)
    made = [
        prediction("plain", of=of, inputs={"age": np.array([41.5])}),
        prediction("hashed", of=of, inputs={"age": texts("0f" * 16)}),
    ]
    found = {row["_request_id"]: row["age"] for row in read_back(rows_of(segment(made)).rows)}
    assert found == {"plain": "41.5", "hashed": "0f" * 16}


def test_a_tensor_hashed_to_one_text_a_row_is_a_text():
    field = Field(name="pixels", dtype=DataType.FP32, shape=(-1, 4))
    of = Shape(
        environment="dev", endpoint="churn", model="churn", version=1, inputs=(field,), outputs=()
    )
    made = prediction(of=of, inputs={"pixels": texts("aa", "bb")}, outputs={"none": np.array([1])})
    found = read_back(rows_of(segment([made])).rows)
    assert [row["pixels"] for row in found] == ["aa", "bb"]


def test_a_request_that_is_not_counted_in_rows_is_one_row():
    of = Shape(
        environment="dev", endpoint="churn", model="churn", version=1, batchable=False,
        inputs=(Field(name="series", dtype=DataType.FP64), Field(name="n", dtype=DataType.INT32, shape=())),
        outputs=(Field(name="mean", dtype=DataType.FP64, shape=()),),
    )  # fmt: skip
    made = prediction(
        of=of,
        inputs={"series": np.array([1.0, np.nan, 3.0]), "n": np.array(3, "i4")},
        outputs={"mean": np.array(2.0)},
    )
    (row,) = read_back(rows_of(segment([made])).rows)
    assert (row["series"], row["n"], row["mean"]) == ([1.0, None, 3.0], 3, 2.0)


def test_versions_whose_columns_have_no_common_type_are_texts_in_one_view():
    flat = shape(version=1, x=DataType.FP64)
    field = Field(name="x", dtype=DataType.FP64, shape=(-1, 2))
    wide = Shape(
        environment="dev", endpoint="churn", model="churn", version=2, inputs=(field,), outputs=()
    )
    made = [
        prediction("a", of=flat, inputs={"x": np.array([1.5])}),
        prediction("b", of=wide, inputs={"x": np.array([[1.0, 2.0]])}),
    ]
    found = {row["_request_id"]: row["x"] for row in read_back(rows_of(segment(made)).rows)}
    assert found == {"a": "1.5", "b": "[1.0, 2.0]"}


def test_files_of_many_rows_are_the_same_whatever_their_encodings(tmp_path):
    rng = np.random.default_rng(3)
    of = shape(full=DataType.FP64, few=DataType.FP64, number=DataType.INT64, text=DataType.STRING)
    count = 5000
    made = [
        prediction(
            f"{rng.integers(2**60):x}", of=of,
            inputs={
                "full": rng.normal(size=count), "few": rng.integers(0, 9, count) / 2,
                "number": rng.integers(-(2**63), 2**63 - 1, count),
                "text": texts(*(f"{i % 7}" for i in range(count))),
            },
            outputs={"label": np.arange(count)},
        )
        for _ in range(2)
    ]  # fmt: skip
    (part,) = rows_of(segment(made)).rows
    assert len(part.table) == 2 * count
    write_table(part.table, tmp_path / "a.parquet")
    write_tables(batches_of([tmp_path / "a.parquet"] * 2), tmp_path / "b.parquet")
    found = pq.read_table(tmp_path / "b.parquet")
    assert found.slice(0, 2 * count).equals(part.table)
    file = pq.ParquetFile(tmp_path / "b.parquet").metadata.row_group(0)
    encodings = {
        file.column(i).path_in_schema: file.column(i).encodings for i in range(file.num_columns)
    }
    assert "BYTE_STREAM_SPLIT" in encodings["full"]
    assert "RLE_DICTIONARY" in encodings["few"]
    assert "DELTA_BINARY_PACKED" in encodings["label"]


BAD = [
    {"outputs": {"label": np.array([1])}, "inputs": {"age": np.zeros(3), "plan": texts(*"abc")}},
    {"outputs": {"label": np.array(1)}, "inputs": {"age": np.zeros(3), "plan": texts(*"abc")}},
    {"inputs": {"plan": texts("a", np.nan)}},
    {"inputs": {"plan": texts(b"a")}},
    {"inputs": {"plan": texts(5)}},
    {"outputs": {"label": np.array(["2026-01-01"], "M8[D]")}},
    {"outputs": {"label": np.array([1], np.longdouble)}},
    {"inputs": {"plan": np.array([0xD800], "<u4").view("<U1")}},
    {"inputs": {"plan": np.array([0x110000], ">u4").view(">U1")}},
    {"inputs": {"plan": np.array([b"\xff"])}},
]


@pytest.mark.parametrize("bad", BAD)
def test_a_prediction_that_no_table_can_hold_costs_itself_alone(bad):
    data = segment([prediction("a"), prediction("bad", **bad), prediction("c")])
    read = rows_of(data)
    found = [row["_request_id"] for row in read_back(read.rows)]
    assert (sorted(found), read.frames, read.refused) == (["a", "c"], 2, 1)
    assert read.good_bytes == len(data)


def test_a_frame_of_a_known_kind_that_cannot_be_decoded_costs_itself_alone():
    data = segment([prediction("a")]) + frame(msgspec.msgpack.encode((1, "nonsense")))
    read = rows_of(data + segment([prediction("c")])[24:])
    assert [row["_request_id"] for row in read_back(read.rows)] == ["a", "c"]
    assert (read.frames, read.refused) == (2, 1)


def test_what_a_newer_release_wrote_is_not_taken_for_nonsense():
    data = segment([prediction("a")])
    read = rows_of(data + frame(msgspec.msgpack.encode((99, 0))) + data[24:])
    assert (read.frames, read.refused, read.good_bytes) == (1, 0, len(data))


def test_a_text_of_any_character_in_an_array_of_numpys_is_kept():
    made = prediction(inputs={"age": np.zeros(2), "plan": np.array(["\U0010ffff", "\ud7ff\ue000"])},
                      outputs={"label": np.zeros(2, int)})  # fmt: skip
    (one, other) = read_back(rows_of(segment([made])).rows)
    assert (one["plan"], other["plan"]) == ("\U0010ffff", "\ud7ff\ue000")
