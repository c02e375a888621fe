"""Feedback as it is posted: what is sound is kept as it was meant, and everything else is refused by its place."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import InvalidRequest
from shipway.core.labels import label_text
from shipway.wire.feedback import MOST_ITEMS, decode_truths, feedback_of, microseconds

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def decoded(body, now=NOW):
    return decode_truths(body if isinstance(body, bytes) else msgspec.json.encode(body), now)


def kept(item):
    (truth,) = decoded(item)
    return feedback_of(truth, environment="dev", endpoint="churn", principal="shop", now=NOW)


def test_one_object_and_a_list_of_one_are_the_same():
    assert (
        decoded({"request_id": "a", "label": 1})
        == decoded([{"request_id": "a", "label": 1}])
        != decoded([{"request_id": "a", "label": 2}])
    )


def test_everything_that_is_sent_is_kept():
    item = {"request_id": "a", "key": "c7", "row": 3, "label": True, "score": 2, "id": "m1",
            "outcomes": {"revenue": 9.5}, "at": "2026-02-28T23:00:00.000001+01:00"}  # fmt: skip
    found = kept(item)
    assert (found.environment, found.endpoint, found.principal) == ("dev", "churn", "shop")
    assert (found.request_id, found.key, found.row, found.id) == ("a", "c7", 3, "m1")
    assert (found.label, found.score, found.outcomes) == ("true", 2.0, {"revenue": 9.5})
    at = datetime(2026, 2, 28, 22, 0, 0, 1, tzinfo=UTC)
    assert found.at_us == int(at.timestamp()) * 1_000_000 + 1


def test_what_says_no_time_is_of_now():
    assert kept({"key": "a", "score": 0}).at_us == microseconds(NOW)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"label": 1}, "neither `request_id` nor `key`"),
        ({"request_id": "a"}, "no `label`, no `score` and no `outcomes`"),
        ({"request_id": "", "label": 1}, "length >= 1"),
        ({"request_id": "a" * 257, "label": 1}, "length <= 256"),
        ({"key": "a", "label": "x" * 257}, "length <= 256"),
        ({"key": "a", "label": [1]}, "got `array`"),
        ({"key": "a", "label": 2**64}, "more than 64 bits"),
        ({"key": "a", "score": "1"}, "got `str`"),
        ({"key": "a", "score": 1e61}, "<= 1e+60"),
        ({"key": "a", "row": -1, "label": 1}, ">= 0"),
        ({"key": "a", "row": 2**31, "label": 1}, "2147483647"),
        ({"key": "a", "lable": 1}, "unknown field `lable`"),
        ({"key": "a", "outcomes": {"": 1}}, "length >= 1"),
        ({"key": "a", "outcomes": {str(n): 1 for n in range(21)}}, "more than 20"),
        ({"key": "a", "label": 1, "at": "2026-01-01T00:00:00"}, "without a time zone"),
        ({"key": "a", "label": 1, "at": "1969-12-31T23:59:59Z"}, "before 1970"),
        ({"key": "a", "label": 1, "at": (NOW + timedelta(days=2)).isoformat()}, "a day ahead"),
    ],
)
def test_what_is_unsound_is_refused_and_placed(item, said):
    sound = {"key": "b", "label": 0}
    for body, place in ((item, "$"), ([sound, item], "$[1]")):
        with pytest.raises(InvalidRequest) as caught:
            decoded(body)
        assert said in caught.value.message
        assert place in caught.value.message or place == "$"
        assert "request_id" in caught.value.next_step


@pytest.mark.parametrize("body", [b"", b"[", b"7", b'"a"', b"\xff", b'{"key":"a","score":NaN}',
                                  b'{"key":"a","label":1e999}', b"[" * 100_000])  # fmt: skip
def test_bytes_that_are_no_feedback_are_refused(body):
    with pytest.raises(InvalidRequest):
        decoded(body)


def test_a_request_takes_a_thousand_and_no_more():
    assert len(decoded([{"key": "a", "label": 1}] * MOST_ITEMS)) == MOST_ITEMS
    with pytest.raises(InvalidRequest, match="1,001"):
        decoded([{"key": "a", "label": 1}] * (MOST_ITEMS + 1))


@given(st.binary(max_size=200))
def test_whatever_comes_is_read_or_refused(body):
    with suppress(InvalidRequest):
        assert all(truth.request_id or truth.key for truth in decoded(body))


@given(st.integers(-(2**53) + 1, 2**53 - 1))
def test_a_whole_number_is_one_label_however_it_was_written(number):
    assert label_text(number) == label_text(float(number)) == str(number)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_number_is_read_back_from_its_label(number):
    assert float(label_text(number)) == number
