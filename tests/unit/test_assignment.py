import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.assignment import is_moved, key_text, place_of, row_key
from shipway.core.strategies import Source
from shipway.wire.callers import READERS

KEYS = st.text(st.characters(codec=None))
WEIGHTS = st.floats(0, 100)


class Sent:
    def __init__(self, body=b"", **headers):
        self.body = body
        self.headers = {k.replace("_", "-").encode(): v for k, v in headers.items()}


@given(st.text(), KEYS)
def test_place_is_the_same_each_time_and_within_the_range(salt, key):
    place = place_of(salt, key)
    assert place == place_of(salt, key)
    assert 0 <= place < 100
    assert is_moved(place, 100)
    assert not is_moved(place, 0)


def test_places_never_change_between_releases():
    assert place_of("r-1", "alice") == 11.664283457025348
    assert place_of("r-1", "bob") == 5.166611485248751


@given(KEYS, WEIGHTS, WEIGHTS)
def test_caller_moved_to_the_candidate_stays_there_as_the_weight_grows(key, one, other):
    place, (low, high) = place_of("r", key), sorted((one, other))
    assert is_moved(place, high) or not is_moved(place, low)


def test_places_are_spread_evenly_and_each_rollout_has_its_own():
    keys = [f"user-{number}" for number in range(20_000)]
    for weight in (1, 5, 50):
        share = sum(is_moved(place_of("r1", key), weight) for key in keys) / len(keys) * 100
        assert share == pytest.approx(weight, abs=4 * math.sqrt(weight * (100 - weight) / 20_000))
    both = sum(place_of("r1", key) < 50 and place_of("r2", key) < 50 for key in keys)
    assert both / len(keys) == pytest.approx(0.25, abs=0.015)


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (7.0, "7"), ("7", "7"), (b"7", "7"), (1.5, "1.5"), (True, "true"), (2**70, str(2**70)),
     (None, None), ("", None), (b"", None), (math.nan, None), (math.inf, "inf"), ([7], None),
     ({}, None)],
)  # fmt: skip
def test_key_is_the_same_however_it_is_written(value, text):
    assert key_text(value) == text


@pytest.mark.parametrize(
    ("array", "key"),
    [
        (np.array([7.0, 8.0]), "7"),
        (np.array([7, 8], np.int64), "7"),
        (np.array(["a", "b"], object), "a"),
        (np.array([b"a"], object), "a"),
        (np.array([None], object), None),
        (np.array([math.nan]), None),
        (np.array([[1.0, 2.0]]), "[1.0, 2.0]"),
        (np.array([[7.0], [8.0]]), "7"),
        (np.array([["a"], ["b"]], object), "a"),
        (np.array([[[7]]]), "7"),
        (np.array([[None]], object), None),
        (np.array(5), "5"),
        (np.array([]), None),
        (None, None),
    ],
)
def test_key_of_an_input_is_its_first_row(array, key):
    assert row_key(array) == key


TOKEN = b"Bearer e30.eyJzdWIiOiJhbGljZSIsIm9yZyI6N30.c2lnbg"
"""Its claims are `{"sub": "alice", "org": 7}`."""


@pytest.mark.parametrize(
    ("by", "name", "sent", "key"),
    [
        (Source.HEADER, "X-User", Sent(x_user=b" alice "), "alice"),
        (Source.HEADER, "x-user", Sent(x_user=b""), None),
        (Source.HEADER, "x-user", Sent(), None),
        (Source.KEY, "", Sent(authorization=b"Bearer k", x_api_key=b"other"), "Bearer k"),
        (Source.KEY, "", Sent(x_api_key=b"k"), "k"),
        (Source.KEY, "", Sent(), None),
        (Source.CLAIM, "sub", Sent(authorization=TOKEN), "alice"),
        (Source.CLAIM, "org", Sent(authorization=TOKEN.replace(b"Bearer", b"bearer")), "7"),
        (Source.CLAIM, "name", Sent(authorization=TOKEN), None),
        (Source.CLAIM, "sub", Sent(authorization=b"Basic e30.e30.e30"), None),
        (Source.CLAIM, "sub", Sent(authorization=b"Bearer e30"), None),
        (Source.CLAIM, "sub", Sent(authorization=b"Bearer e30.W10.x"), None),
        (Source.CLAIM, "sub", Sent(authorization=b"Bearer e30.!.x"), None),
        (Source.JSON_PATH, "a.b", Sent(b'{"a": {"b": 7}}'), "7"),
        (Source.JSON_PATH, "a.1.b", Sent(b'{"a": [0, {"b": "x"}]}'), "x"),
        (Source.JSON_PATH, "a.9", Sent(b'{"a": [0]}'), None),
        (Source.JSON_PATH, "a.b.c", Sent(b'{"a": {"b": 7}}'), None),
        (Source.JSON_PATH, "a", Sent(b'{"a": NaN}'), None),
        (Source.JSON_PATH, "a", Sent(b"no json"), None),
        (Source.JSON_PATH, "a", Sent(b""), None),
        (Source.JSON_PATH, "a",
         Sent(b'{"a": 7}\x00\x01', inference_header_content_length=b"8"), "7"),
    ],
)  # fmt: skip
def test_key_is_read_from_where_it_is(by, name, sent, key):
    assert READERS[by](sent, name) == key


@given(st.sampled_from(list(READERS)), st.text(), st.binary(), st.binary(), st.binary())
def test_reading_a_key_never_raises(by, name, body, token, length):
    for authorization in (token, b"Bearer " + token, b"Bearer x." + token + b".y"):
        sent = Sent(body, authorization=authorization, inference_header_content_length=length)
        key = READERS[by](sent, name)
        assert key is None or isinstance(key, str)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_every_source_but_an_input_has_a_reader(value):
    assert set(READERS) == set(Source) - {Source.INPUT}
    sent = Sent(json.dumps({"a": value}).encode())
    assert READERS[Source.JSON_PATH](sent, "a") == key_text(value)
