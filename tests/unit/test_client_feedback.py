"""Feedback from the SDK: any number of items become requests that a gateway takes, none lost, in order."""

import msgspec
import pytest

from shipway.client import feedback
from shipway.client.discovery import Addresses
from shipway.client.exchange import Run
from shipway.client.feedback import ENOUGH_BYTES, Accepted
from shipway.client.session import Session
from shipway.core.errors import InvalidRequest
from shipway.gateway.app import UNKNOWN_LIMIT_BYTES
from shipway.wire.feedback import LONGEST_TEXT, MOST_ITEMS, MOST_OUTCOMES, Truth

SMALL = Truth(key="a", label=1)


def large(number):
    """Of 20 outcomes with names of 35 characters, and an id of 36."""
    outcomes = {f"{name:035}": 1234.56789 for name in range(MOST_OUTCOMES)}
    return Truth(request_id=f"{number:036}", id=f"{number:036}", outcomes=outcomes)


def largest(number):
    """The most that is sound: each character takes six bytes of JSON."""
    text = chr(1) * (LONGEST_TEXT - 4) + f"{number:04}"
    outcomes = {
        chr(1) * 61 + f"{name:02}": -1.2345678901234567e-300 for name in range(MOST_OUTCOMES)
    }
    return Truth(request_id=text, key=text, id=text, label=text, score=1e59, outcomes=outcomes)


def bodies_of(items):
    """The bodies of the requests, each of which keeps all of its items."""
    session = Session(Addresses(control_url="http://x", gateway_url="http://y"))
    run, bodies = Run(feedback.posted(session, "m", items)), []
    while run.step is not None:
        bodies.append(run.step.body)
        run.tell(Accepted(accepted=len(items_of(bodies[-1:]))))
    assert run.result == len(items_of(bodies))
    return bodies


def items_of(bodies):
    return [item for body in bodies for item in msgspec.json.decode(body, type=list[Truth])]


@pytest.mark.parametrize("item", [large, largest])
@pytest.mark.parametrize("count", [0, 1, MOST_ITEMS, 2 * MOST_ITEMS + 1])
def test_items_of_any_size_are_all_sent_in_order_in_bodies_that_a_gateway_takes(item, count):
    items = [item(number) for number in range(count)]
    bodies = bodies_of(items)
    assert items_of(bodies) == items
    assert all(len(body) <= UNKNOWN_LIMIT_BYTES for body in bodies)
    assert all(len(body) >= ENOUGH_BYTES for body in bodies[:-1])


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(MOST_ITEMS, [MOST_ITEMS]), (2 * MOST_ITEMS + 1, [MOST_ITEMS, MOST_ITEMS, 1])],
)
def test_small_items_fill_requests_to_the_number_that_one_takes(count, sizes):
    assert [len(items_of([body])) for body in bodies_of([SMALL] * count)] == sizes


def test_batches_of_a_batch_are_itself():
    for batch in feedback.batches([large(number) for number in range(2 * MOST_ITEMS)]):
        assert list(feedback.batches(batch)) == [batch]


def test_full_request_is_sent_before_the_next_item_is_read():
    found = feedback.batches(feedback.truths([SMALL] * MOST_ITEMS + [{"label": 1}]))
    assert next(found) == [SMALL] * MOST_ITEMS
    with pytest.raises(InvalidRequest, match=f"Feedback {MOST_ITEMS + 1} "):
        next(found)
