"""Feedback in files: each format gives the same items, and what is none is refused before it is sent."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from shipway.cli.feedback import items_in
from shipway.cli.sending import one_item, sent
from shipway.client.feedback import truths
from shipway.core.errors import InvalidRequest, ServerUnreachable
from shipway.core.labels import label_text
from shipway.wire.feedback import MOST_ITEMS

CSV = "request_id,key,row,label,score,outcome.revenue,at\nr1,,0,1,,9.5,2026-03-01T00:00:00Z\n,k1,,yes,2.5,,\n"


@pytest.fixture
def files(tmp_path):
    def file(name, content):
        path = tmp_path / name
        if isinstance(content, pa.Table):
            parquet.write_table(content, path)
        else:
            path.write_text(content)
        return path

    return file


def read(path):
    return list(truths(items_in(path)))


def bare(found):
    return [(t.request_id, t.key, t.row, t.label, t.score, t.outcomes, t.at) for t in found]


def test_every_format_gives_the_same_items(files):
    at = datetime(2026, 3, 1, tzinfo=UTC)
    lines = [
        {
            "request_id": "r1",
            "row": 0,
            "label": "1",
            "outcomes": {"revenue": 9.5},
            "at": at.isoformat(),
        },
        {"key": "k1", "label": "yes", "score": 2.5},
    ]
    table = pa.table(
        {
            "request_id": ["r1", None], "key": [None, "k1"], "row": pa.array([0, None], pa.int32()),
            "label": ["1", "yes"], "score": [None, 2.5], "outcome.revenue": [9.5, None],
            "at": pa.array([at, None], pa.timestamp("us", "UTC")),
        }
    )  # fmt: skip
    wanted = [
        ("r1", None, 0, "1", None, {"revenue": 9.5}, at),
        (None, "k1", None, "yes", 2.5, {}, None),
    ]
    assert bare(read(files("a.csv", CSV))) == wanted
    assert bare(read(files("a.jsonl", "\n\n".join(map(json.dumps, lines))))) == wanted
    assert bare(read(files("a.parquet", table))) == wanted


def test_labels_of_parquet_keep_their_kind(files):
    for column, texts in (
        (pa.array([True, False]), ["true", "false"]),
        (pa.array([1.0, 2.0]), ["1", "2"]),
    ):
        table = pa.table({"key": ["a", "b"], "label": column})
        assert [label_text(one.label) for one in read(files("a.parquet", table))] == texts


def test_a_file_that_is_sent_again_has_the_same_ids_and_another_file_has_others(files):
    first = [one.id for one in read(files("a.csv", CSV))]
    assert len(set(first)) == 2
    assert [one.id for one in read(files("b.csv", CSV))] == first
    assert not set(first) & {one.id for one in read(files("c.csv", CSV.replace("9.5", "9.6")))}


def test_ids_of_ones_own_are_kept(files):
    path = files("a.jsonl", '{"key": "a", "label": 1, "id": "mine"}')
    assert [one.id for one in read(path)] == ["mine"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "request_id,lable\nr1,1\n", "lable"),
        ("a.csv", "request_id,label\nr1,1,2\n", "more cells than columns"),
        ("a.csv", "request_id,score\nr1,x\n", "no number"),
        ("a.csv", "request_id,label\n,1\n", "Feedback 1 has neither"),
        ("a.csv", "request_id,row,label\nr1,1.5,1\n", "Feedback 1 cannot be read"),
        ("a.jsonl", '{"key": "a", "label": 1}\nx\n', "Line 2"),
        ("a.jsonl", '{"key": "a", "lable": 1}\n', "unknown field `lable`"),
        ("a.parquet", "no parquet", "cannot be read"),
        ("a.txt", "x", "no file of feedback"),
    ],
)
def test_what_is_no_feedback_is_refused_by_its_place(files, name, content, said):
    with pytest.raises(InvalidRequest) as caught:
        read(files(name, content))
    assert said in caught.value.message
    assert caught.value.next_step


def test_a_file_that_is_not_there_is_refused():
    with pytest.raises(InvalidRequest, match="cannot be read"):
        list(items_in(Path("/nowhere/a.csv")))


def test_options_make_one_item_and_a_file_stands_alone():
    given = {"request_id": "a", "label": "1", "key": None}
    assert one_item(given, ["revenue=2"], file=None) == [
        {"request_id": "a", "label": "1", "outcomes": {"revenue": 2.0}}
    ]
    for item, file in ((given, Path("a.csv")), ({"key": None}, None)):
        with pytest.raises(InvalidRequest):
            one_item(item, [], file=file)
    with pytest.raises(InvalidRequest, match="no outcome"):
        one_item(given, ["revenue"], file=None)


class Gateway:
    """Takes batches until it is away."""

    def __init__(self, *, takes):
        self.takes = takes
        self.batches = []

    def post_feedback(self, endpoint, items):
        if len(self.batches) == self.takes:
            raise ServerUnreachable("The gateway is away.", next_step="Start it.")
        self.batches.append(len(items))
        return len(items)


def test_a_file_is_sent_as_many_items_at_a_time_as_one_request_takes():
    gateway = Gateway(takes=9)
    items = [{"key": "a", "outcomes": {f"{n:063}": 0.5 for n in range(20)}}] * MOST_ITEMS
    assert sent(gateway, "e", items, dry_run=False) == sum(gateway.batches) == MOST_ITEMS
    assert len(gateway.batches) == 2


def test_a_dry_run_reads_all_and_sends_nothing():
    gateway = Gateway(takes=9)
    items = [{"key": "a", "label": 1}] * (MOST_ITEMS + 1)
    assert sent(gateway, "e", items, dry_run=True) == MOST_ITEMS + 1
    assert gateway.batches == []


def test_what_breaks_off_says_how_much_is_kept_and_that_it_can_be_sent_again():
    gateway = Gateway(takes=2)
    with pytest.raises(ServerUnreachable, match="2,000 items before it are kept") as caught:
        sent(gateway, "e", [{"key": "a", "label": 1}] * 2500, dry_run=False)
    assert caught.value.details["kept"] == 2000
    assert caught.value.next_step == "Start it."
