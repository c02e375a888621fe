"""Laws of the pure batch decision."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.batching import Waiting, next_batch, split, stack_key, stacked

KEY_A = (("x", "<f4", (2,)),)
KEY_B = (("x", "<f4", (3,)),)
queues = st.lists(
    st.tuples(st.integers(0, 9), st.sampled_from([KEY_A, KEY_B, None])), min_size=1, max_size=30
).map(lambda items: [Waiting(n, rows, key) for n, (rows, key) in enumerate(items)])


@given(queues, st.integers(1, 16))
def test_no_batch_exceeds_its_size_unless_one_request_does(queue, max_rows):
    chosen = next_batch(queue, max_rows=max_rows)
    rows = sum(queue[ticket].rows for ticket in chosen)
    assert rows <= max_rows or len(chosen) == 1


@given(queues, st.integers(1, 16))
def test_oldest_request_is_always_in_the_next_batch(queue, max_rows):
    assert next_batch(queue, max_rows=max_rows)[0] == 0


@given(queues, st.integers(1, 16))
def test_every_request_is_run_exactly_once(queue, max_rows):
    waiting, done = list(queue), []
    while waiting:
        chosen = next_batch(waiting, max_rows=max_rows)
        done += chosen
        waiting = [item for item in waiting if item.ticket not in chosen]
    assert sorted(done) == [item.ticket for item in queue]


@given(queues, st.integers(1, 16))
def test_only_equal_stack_keys_share_a_batch(queue, max_rows):
    keys = {queue[ticket].stack_key for ticket in next_batch(queue, max_rows=max_rows)}
    assert len(keys) == 1


@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_split_gives_every_request_its_own_rows(sizes):
    batch = [{"x": np.full((n, 2), float(i))} for i, n in enumerate(sizes)]
    outputs = {"y": stacked(batch)["x"] * 10}
    parts = split(outputs, sizes)
    assert parts is not None
    for index, (size, part) in enumerate(zip(sizes, parts, strict=True)):
        assert part["y"].shape == (size, 2)
        assert (part["y"] == index * 10).all()


def test_output_that_does_not_follow_the_rows_is_not_split():
    assert split({"y": np.zeros(3)}, [1, 1]) is None
    assert split({"y": np.float64(1)}, [1]) is None


def test_inputs_that_disagree_on_rows_are_not_stackable():
    assert stack_key({"a": np.zeros(2), "b": np.zeros(3)}) is None
    assert stack_key({"a": np.float32(1)}) is None
    assert stack_key({"a": np.zeros((2, 4))}) == (("a", "<f8", (4,)),)
