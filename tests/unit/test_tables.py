"""CSV, Arrow IPC and Parquet bodies on Open Inference's route: what they give, and what is refused."""

import io
import json
import struct
from contextlib import suppress

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import BodyTooLarge, InvalidInput, InvalidRequest, ShipwayError
from shipway.core.inference import InferenceResponse
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.core.validation import compile_validator
from shipway.wire import arrow
from shipway.wire.arrow import Kind
from shipway.wire.open_inference_tables import OpenInferenceTables
from shipway.wire.parquet_sizes import pages_of

SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(
        Field(name="age", dtype=DataType.FP64, nullable=True),
        Field(name="visits", dtype=DataType.INT64),
        Field(name="member", dtype=DataType.BOOL),
        Field(name="city", dtype=DataType.STRING, nullable=True),
    ),
    outputs=(Field(name="label", dtype=DataType.STRING),),
)
MATRIX = Signature(
    layout=Layout.TENSORS,
    inputs=(Field(name="X", dtype=DataType.FP32, shape=(-1, 3)),),
    outputs=(Field(name="prediction", dtype=DataType.FP32),),
)
TABLE = pa.table(
    {
        "city": ["Rome", None, "Oslo"],
        "member": [True, False, True],
        "visits": [1, 2**60, 3],
        "age": [30.5, None, 41.0],
    }
)
ROWS = {
    "age": [30.5, None, 41.0],
    "visits": [1, 2**60, 3],
    "member": [True, False, True],
    "city": ["Rome", None, "Oslo"],
}
CSV_BODY = b"city,member,visits,age\nRome,true,1,30.5\n,False,1152921504606846976,NA\nOslo,1,3,41\n"
CODEC = OpenInferenceTables()


def ipc(table, *, file=False, **options):
    sink = io.BytesIO()
    opened = pa.ipc.new_file if file else pa.ipc.new_stream
    with opened(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


class Sent:
    def __init__(self, body, kind, accept=""):
        self.body = body
        self.headers = {b"content-type": kind.encode(), b"accept": accept.encode()}
        self.query = b""


def conformed(body, kind, signature=SIGNATURE):
    asked = CODEC.decode(Sent(body, kind), signature)
    found = compile_validator(signature)(asked.inputs)
    return {
        name: [None if item != item else item for item in array.tolist()]
        for name, array in found.items()
    }


BODIES = [
    (CSV_BODY, "text/csv"),
    (b"\xef\xbb\xbf" + CSV_BODY.replace(b"\n", b"\r\n"), "text/csv; charset=utf-8"),
    (b"30.5,1,1,Rome\n,1152921504606846976,0,\n41,3,1,Oslo", "text/csv; header=absent"),
    (ipc(TABLE), Kind.STREAM),
    (ipc(TABLE, compression="zstd"), Kind.STREAM),
    (ipc(TABLE, compression="lz4"), Kind.STREAM),
    (ipc(TABLE, file=True), Kind.FILE),
    (ipc(TABLE, file=True, compression="zstd"), Kind.FILE),
    (
        ipc(TABLE.set_column(0, "city", TABLE.column("city").dictionary_encode())),
        Kind.STREAM,
    ),
    (parquet(TABLE), Kind.PARQUET),
    (parquet(TABLE, compression="zstd", row_group_size=1), Kind.PARQUET),
    (parquet(TABLE, use_dictionary=False, data_page_version="2.0"), Kind.PARQUET),
]


@pytest.mark.parametrize(("body", "kind"), BODIES)
def test_every_form_of_table_gives_the_same_columns_in_any_order(body, kind):
    assert conformed(body, kind) == ROWS


@pytest.mark.parametrize("kind", [*Kind, "text/csv"])
def test_frames_and_lists_feed_a_model_of_one_matrix(kind):
    frame = pa.table({"a": [1.0, 4.0], "b": [2.0, 5.0], "c": [3.0, 6.0]})
    writers = {
        Kind.STREAM: ipc,
        Kind.FILE: lambda t: ipc(t, file=True),
        Kind.PARQUET: parquet,
        "text/csv": lambda _: b"a,b,c\n1,2,3\n4,5,6\n",
    }
    assert conformed(writers[kind](frame), kind, MATRIX) == {"X": [[1, 2, 3], [4, 5, 6]]}
    if kind != "text/csv":
        lists = pa.table({"X": pa.array([[1, 2, 3], [4, 5, 6]], pa.list_(pa.float32(), 3))})
        assert conformed(writers[kind](lists), kind, MATRIX) == {"X": [[1, 2, 3], [4, 5, 6]]}


@given(
    st.lists(
        st.tuples(
            st.none() | st.floats(allow_nan=False, width=64),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.none() | st.text(st.characters(exclude_categories=["Cs"])),
        ),
        min_size=1,
    ),
    st.sampled_from(list(Kind)),
)
def test_arrow_and_parquet_bring_every_value(rows, kind):
    names = ("age", "visits", "member", "city")
    types = (pa.float64(), pa.int64(), pa.bool_(), pa.string())
    columns = {
        name: pa.array([row[at] for row in rows], types[at]) for at, name in enumerate(names)
    }
    table = pa.table(columns)
    body = parquet(table) if kind is Kind.PARQUET else ipc(table, file=kind is Kind.FILE)
    found = conformed(body, kind)
    assert found == {name: [row[at] for row in rows] for at, name in enumerate(names)}


@pytest.mark.parametrize(("body", "kind"), [entry for entry in BODIES if entry[1] in [*Kind]])
def test_truncated_bodies_are_refused_wherever_they_were_cut(body, kind):
    for end in range(0, len(body), max(1, len(body) // 100)):
        with pytest.raises(InvalidRequest):
            conformed(body[:end], kind)


@pytest.mark.parametrize("compression", [None, "zstd"])
@given(st.data())
def test_flipped_bytes_never_do_worse_than_a_refusal(compression, data):
    file = data.draw(st.sampled_from([Kind.STREAM, Kind.FILE, Kind.PARQUET]))
    body = bytearray(
        parquet(TABLE, compression=compression or "none")
        if file is Kind.PARQUET
        else ipc(TABLE, file=file is Kind.FILE, compression=compression)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    with suppress(ShipwayError):
        conformed(bytes(body), file)


class TestBombs:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(arrow, "DECODED_LIMIT_BYTES", 1_000_000)

    def refused(self, body, kind):
        assert len(body) < 200_000
        with pytest.raises(BodyTooLarge, match="becomes larger than 1000000 bytes"):
            CODEC.decode(Sent(body, kind), SIGNATURE)

    @pytest.mark.parametrize("compression", ["zstd", "lz4"])
    def test_compressed_zeros(self, compression):
        zeros = pa.table({"age": np.zeros(1_000_000)})
        self.refused(ipc(zeros, compression=compression), Kind.STREAM)
        self.refused(ipc(zeros, compression=compression, file=True), Kind.FILE)
        self.refused(parquet(zeros, compression=compression), Kind.PARQUET)

    def test_compressed_dictionary(self):
        words = pa.array(["x" * 2_000_000]).dictionary_encode()
        self.refused(ipc(pa.table({"city": words}), compression="zstd"), Kind.STREAM)

    def test_rows_without_bytes(self):
        nothing = pa.table({"age": pa.nulls(10_000_000)})
        self.refused(ipc(nothing), Kind.STREAM)
        self.refused(parquet(nothing), Kind.PARQUET)

    def test_one_dictionary_for_many_batches_is_made_objects_once(self, monkeypatch):
        words = pa.array([str(n) for n in range(5000)])
        one = pa.RecordBatch.from_arrays(
            [pa.DictionaryArray.from_arrays(pa.array([7], pa.int32()), words)], ["city"]
        )
        body = ipc(pa.Table.from_batches([one] * 2000))
        made = []
        monkeypatch.setattr(arrow, "_objects", lambda v, of=arrow._objects: made.append(1) or of(v))
        assert (
            CODEC.decode(Sent(body, Kind.STREAM), SIGNATURE).inputs["city"].tolist() == ["7"] * 2000
        )
        assert len(made) == 1

    def test_many_batches_that_are_modest_each(self):
        batches = pa.table({"age": np.zeros(10_000)}).to_batches() * 20
        self.refused(ipc(pa.Table.from_batches(batches), compression="zstd"), Kind.STREAM)

    def test_announced_length_that_lies(self):
        body = bytearray(ipc(pa.table({"age": np.zeros(1000)}), compression="zstd"))
        at = bytes(body).index(struct.pack("<q", 8000))
        body[at : at + 8] = struct.pack("<q", 2**40)
        self.refused(bytes(body), Kind.STREAM)
        body[at : at + 8] = struct.pack("<q", 800)
        with pytest.raises(InvalidRequest):
            CODEC.decode(Sent(bytes(body), Kind.STREAM), SIGNATURE)

    def test_page_that_says_more_than_the_footer(self):
        """Its size is a zigzag varint behind its type: 15 00 15 <size> 15 <compressed>."""
        table = pa.table({"age": np.zeros(10_000)})
        body = bytearray(parquet(table, compression="zstd", use_dictionary=False))
        assert sum(page.size_bytes for page in pages_of(bytes(body))) >= 80_000
        at = 7
        assert body[at - 3 : at] == b"\x15\x00\x15"
        assert body[at + 3] == 0x15
        body[at : at + 3] = b"\xfe\xff\x7f"  # three bytes long as before, and 1 MiB now
        self.refused(bytes(body), Kind.PARQUET)

    def test_many_tiny_pages(self, monkeypatch):
        monkeypatch.setattr(arrow, "MAX_PAGES", 10)
        options = {"use_dictionary": False, "data_page_size": 8, "write_batch_size": 1}
        body = parquet(pa.table({"age": np.zeros(50)}), **options)
        with pytest.raises(InvalidRequest, match="more than 10 pages"):
            CODEC.decode(Sent(body, Kind.PARQUET), SIGNATURE)

    def test_texts_that_share_their_beginnings(self):
        words = pa.table({"city": ["x" * 20_000 + str(n) for n in range(200)]})
        encoding = {"column_encoding": "DELTA_BYTE_ARRAY", "use_dictionary": False}
        for version in ("1.0", "2.0"):
            body = parquet(words, data_page_version=version, **encoding)
            with pytest.raises(InvalidRequest, match="DELTA_BYTE_ARRAY"):
                CODEC.decode(Sent(body, Kind.PARQUET), SIGNATURE)

    def test_one_long_text_in_many_rows_is_one_text(self, monkeypatch):
        monkeypatch.setattr(arrow, "DECODED_LIMIT_BYTES", 10_000_000)
        word = pa.DictionaryArray.from_arrays(np.zeros(50_000, np.int32), ["x" * 100_000])
        table = pa.table({"city": word, "age": np.zeros(50_000)})
        texts = parquet(table, store_schema=False)  # plain text to whoever opens it
        for body, kind in ((texts, Kind.PARQUET), (ipc(table), Kind.STREAM)):
            column = CODEC.decode(Sent(body, kind), SIGNATURE).inputs["city"]
            assert len({id(item) for item in column}) <= 3


@pytest.mark.parametrize(
    ("body", "kind", "error", "words"),
    [
        (b"", "text/csv", InvalidRequest, "empty"),
        (b"age,visits\n", "text/csv", InvalidRequest, "no rows"),
        (b"age,age\n1,2\n", "text/csv", InvalidRequest, "`age` appears twice"),
        (b"age,visits\n1,2\n3\n", "text/csv", InvalidRequest, "Line 3"),
        (b"\xff\xfe", "text/csv", InvalidRequest, "not UTF-8"),
        (b'age\n"1', "text/csv", InvalidRequest, "not CSV"),
        (b"age\n" + b"1" * 200_000, "text/csv", InvalidRequest, "not CSV"),
        (CSV_BODY.replace(b"30.5", b"old"), "text/csv", InvalidInput, "'old'"),
        (CSV_BODY.replace(b",1,30", b",1.5,30"), "text/csv", InvalidInput, "`visits`"),
        (CSV_BODY.replace(b"true", b"perhaps"), "text/csv", InvalidInput, "'perhaps'"),
        (CSV_BODY.replace(b"city", b"town"), "text/csv", InvalidRequest, "no input `town`"),
        (b"", Kind.STREAM, InvalidRequest, "not application/vnd.apache.arrow.stream"),
        (b"PAR1", Kind.PARQUET, InvalidRequest, "not application/vnd.apache.parquet"),
        (ipc(TABLE), Kind.FILE, InvalidRequest, "ARROW1"),
        (ipc(TABLE, file=True), Kind.STREAM, InvalidRequest, "not application"),
        (ipc(TABLE.drop_columns(["age"])), Kind.STREAM, InvalidInput, "`age` is missing"),
        (ipc(pa.table({"age": pa.array([1], pa.timestamp("s"))})), Kind.STREAM, InvalidInput, "`age`"),
        (ipc(pa.table({"age": [[1.0]]})), Kind.STREAM, InvalidInput, "list<"),
        (ipc(TABLE.slice(0, 0)), Kind.STREAM, InvalidRequest, "no rows"),
        (ipc(pa.table({})), Kind.STREAM, InvalidRequest, "no rows"),
    ],
)  # fmt: skip
def test_bad_bodies_get_words(body, kind, error, words):
    with pytest.raises(error) as raised:
        conformed(body, kind)
    assert type(raised.value) is error
    assert words in str(raised.value)


RESPONSE = InferenceResponse(
    model="m",
    version="2",
    outputs={
        "label": np.array(["yes", None], dtype=object),
        "probabilities": np.array([[0.25, 0.75], [1, 0]], np.float32),
    },
)


@pytest.mark.parametrize(
    ("kind", "accept", "answered"),
    [
        ("text/csv", "", "application/json"),
        ("text/csv", "*/*", "application/json"),
        ("text/csv", "text/csv", "text/csv"),
        ("text/csv", Kind.STREAM, Kind.STREAM),
        (Kind.STREAM, "", Kind.STREAM),
        (Kind.FILE, "*/*", Kind.FILE),
        (Kind.STREAM, "application/json", "application/json"),
        (Kind.PARQUET, "", "application/json"),
        (Kind.PARQUET, f"text/html, {Kind.PARQUET};q=0.9", Kind.PARQUET),
    ],
)
def test_answer_is_in_the_accepted_form_else_arrow_for_arrow_and_json_for_the_rest(
    kind, accept, answered
):
    bodies = {str(k): body for body, k in BODIES}
    asked = CODEC.decode(Sent(bodies[kind], kind, accept), SIGNATURE)
    answer = CODEC.encode(RESPONSE, asked)
    assert dict(answer.headers)[b"content-type"].decode() == answered
    assert read(answer.body, answered) == [
        {"label": "yes", "probabilities": [0.25, 0.75]},
        {"label": None, "probabilities": [1.0, 0.0]},
    ]


def read(body, kind):
    if kind == "application/json":
        label, scores = (tensor["data"] for tensor in json.loads(body)["outputs"])
        pairs = zip(label, (scores[:2], scores[2:]), strict=True)
        return [{"label": name, "probabilities": both} for name, both in pairs]
    if kind == "text/csv":
        assert body == b"label,probabilities_0,probabilities_1\nyes,0.25,0.75\n,1.0,0.0\n"
        return read(CODEC.encode(RESPONSE, CODEC.decode(Sent(ipc(TABLE), Kind.STREAM), SIGNATURE)).body, Kind.STREAM)  # fmt: skip
    table = pq.read_table(io.BytesIO(body)) if kind == Kind.PARQUET else (
        pa.ipc.open_stream(body) if kind == Kind.STREAM else pa.ipc.open_file(body)
    ).read_all()  # fmt: skip
    assert table.schema.metadata[b"model_version"] == b"2"
    return table.to_pylist()
