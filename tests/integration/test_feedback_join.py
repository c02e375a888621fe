"""Feedback finds its predictions: shuffled, late, twice, corrected, by request and by key."""

import random
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shipway.core.evaluations import Task
from shipway.core.targets import Target
from shipway.monitoring.matching import Range, attributed
from shipway.monitoring.performance import performance

sys.path.insert(0, str(Path(__file__).parent))
from prediction_views import opened

LABEL = Target(task=Task.CLASSIFICATION, label="label", is_number=True)
FIELDS = {"label": "BIGINT"}


def slices(predictions, feedback, *, fields=FIELDS, target=LABEL, wanted=Range(), **options):  # noqa: B008
    with opened(fields, predictions, feedback) as connection:
        versions = {row.get("_version", 1) for row in predictions}
        return performance(connection, "churn", dict.fromkeys(versions, target), wanted, **options)


def whole(predictions, feedback, **options):
    (one,) = slices(predictions, feedback, **options).slices
    return one


def right_of(one):
    accuracy = one.classification.accuracy.value if one.classification else 0
    return round(accuracy * one.labelled), one.labelled


def rounded(found):
    """As plain values, without the last digits of floats, which the order of a sum decides."""
    if isinstance(found, float):
        return float(f"{found:.9g}")
    if isinstance(found, msgspec.Struct):
        return rounded(msgspec.structs.asdict(found))
    if isinstance(found, dict):
        return {key: rounded(value) for key, value in found.items()}
    return [rounded(one) for one in found] if isinstance(found, list | tuple) else found


# A stream of requests with a few rows, and what is said of them afterwards


@st.composite
def streams(draw):
    requests = []
    at = 1_000_000
    for number in range(draw(st.integers(1, 12))):
        at += draw(st.integers(1, 50))
        rows = draw(st.lists(st.integers(0, 2), min_size=1, max_size=3))
        key = draw(st.sampled_from([None, "k1", "k2"]))
        is_shadowed = draw(st.booleans())
        requests.append((f"r{number}", at, key, rows, is_shadowed))
    messages = []
    for number in range(draw(st.integers(0, 25))):
        by_key = draw(st.booleans())
        message = {
            "at_us": draw(st.integers(1_000_000, at + 200)),
            "label": draw(st.sampled_from(["0", "1", "1.0", "true", "2", " 2 ", None])),
            "_id": draw(st.sampled_from([None, None, f"m{number}", "again"])),
            "_principal": draw(st.sampled_from([None, "shop"])),
            "_row": draw(st.sampled_from([None, 0, 1])),
            "outcomes": draw(st.sampled_from([{}, {"revenue": float(number)}])),
        }
        if by_key:
            message["_key"] = draw(st.sampled_from(["k1", "k2", "k3"]))
        else:
            message["_request_id"] = f"r{draw(st.integers(0, 13))}"
        messages.append(message)
    copies = draw(st.lists(st.sampled_from(messages), max_size=5)) if messages else []
    return requests, [*messages, *copies]


def rows_of(requests):
    for request_id, at, key, labels, is_shadowed in requests:
        for row, label in enumerate(labels):
            one = {"_request_id": request_id, "_row": row, "at_us": at, "_key": key, "label": label}
            yield one
            if is_shadowed:
                yield one | {"_role": "shadow", "at_us": at + 7, "_version": 2, "label": label % 2}


def offline(requests, messages):
    """The same in plain Python, the long way: for each row, all messages about it, the latest first."""
    seen, once = set(), []
    for place, message in sorted(enumerate(messages), key=lambda one: (one[1]["at_us"], one[0])):
        sent = (message["_principal"] or "", message["_id"])
        if message["_id"] is None or sent not in seen:
            once.append((message["at_us"], place, message))
        seen.add(sent)
    labels, revenue = {}, {}
    for at, _, message in once:
        request = message.get("_request_id")
        if request is None:
            before = [r for r in requests if r[2] == message["_key"] and r[1] <= at]
            request = max(before, key=lambda one: one[1])[0] if before else None
        for row in rows_of(requests):
            if row["_request_id"] != request:
                continue
            place = (row.get("_version", 1), request, row["_row"])
            if message["_row"] in (None, row["_row"]) and message["label"] is not None:
                labels[place] = (
                    int(float({"true": "1"}.get(message["label"], message["label"]))),
                    row,
                )
            if (message["_row"] or 0) == row["_row"] and message["outcomes"]:
                revenue[place, message["_row"] is None] = message["outcomes"]["revenue"]
    right = {version: [0, 0] for version in (1, 2)}
    for (version, *_), (label, row) in labels.items():
        right[version][0] += row["label"] == label
        right[version][1] += 1
    totals = {
        version: [v for (place, _), v in revenue.items() if place[0] == version]
        for version in (1, 2)
    }
    return right, totals


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(streams())
def test_live_numbers_are_those_of_plain_python(stream):
    requests, messages = stream
    right, totals = offline(requests, messages)
    found = slices(list(rows_of(requests)), messages)
    for one in found.slices:
        assert right_of(one) == tuple(right[one.version]), one
        got = sum(business.total for business in one.outcomes), sum(b.n for b in one.outcomes)
        assert got == (sum(totals[one.version]), len(totals[one.version])), one
    assert sum(one.predictions for one in found.slices) == len(list(rows_of(requests)))


@settings(max_examples=15)
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing_where_times_differ(stream, dice):
    requests, messages = stream
    distinct = [message | {"at_us": 1_000_000 + 5 * n} for n, message in enumerate(messages)]
    shuffled = dice.sample(distinct, len(distinct))
    rows = list(rows_of(requests))
    assert rounded(slices(rows, distinct).slices) == rounded(slices(rows, shuffled).slices)


@settings(max_examples=15)
@given(streams(), st.randoms(use_true_random=False))
def test_the_order_of_files_changes_nothing_where_messages_say_when_they_arrived(stream, dice):
    requests, messages = stream
    arrived = [
        message | {"at_us": message["at_us"] % 3 + 1_000_100, "arrived_us": 10**15 + n}
        for n, message in enumerate(messages)
    ]
    shuffled = dice.sample(arrived, len(arrived))
    rows = list(rows_of(requests))
    assert rounded(slices(rows, arrived).slices) == rounded(slices(rows, shuffled).slices)


def test_half_of_the_feedback_shuffled_late_twice_and_corrected_gives_the_accuracy_computed_offline():
    dice = random.Random(7)
    rows = [
        {"_request_id": f"r{n}", "at_us": 10**15 + n * 1000, "label": dice.randrange(2)}
        for n in range(4000)
    ]
    truth = {row["_request_id"]: row["label"] ^ (dice.random() < 0.2) for row in rows[::2]}
    messages = []
    for n, (request, label) in enumerate(truth.items()):
        at = 10**15 + dice.randrange(10**9, 10**12)
        first = label ^ 1 if n % 10 == 0 else label
        messages.append({"_request_id": request, "at_us": at, "_id": f"m{n}", "label": str(first)})
        if n % 10 == 0:
            messages.append(
                {"_request_id": request, "at_us": at + 1, "_id": f"c{n}", "label": str(label)}
            )
        if n % 3 == 0:
            messages.append(messages[-1])
    dice.shuffle(messages)
    one = whole(rows, messages)
    right = sum(row["label"] == truth[row["_request_id"]] for row in rows[::2])
    assert right_of(one) == (right, 2000)
    assert one.classification.accuracy.value == right / 2000
    assert one.unlabelled_share == 0.5
    assert one.delay.p50_s == pytest.approx(5e5, rel=0.1)


# One rule at a time

ASKED = [{"_request_id": "a", "at_us": 100, "_key": "k", "label": 1}]


def said(**fields):
    return {"_request_id": "a", "at_us": 200, **fields}


@pytest.mark.parametrize("label", ["1", "1.0", "true", "True", " 1 ", "+1", "1e0", "01"])
def test_labels_that_are_the_same_number_are_the_same_label(label):
    assert right_of(whole(ASKED, [said(label=label)])) == (1, 1)


@pytest.mark.parametrize("label", ["0", "false", "2", "yes", "", "1.5", "1e999", "nan"])
def test_other_labels_are_wrong_whatever_they_are(label):
    assert right_of(whole(ASKED, [said(label=label)])) == (0, 1)


@pytest.mark.parametrize(("kind", "given", "truths"), [
    ("BOOLEAN", True, ["true", "1", "1.0", "TRUE"]),
    ("FLOAT", 0.1, ["0.1", ".1", "1e-1"]),
    ("HUGEINT", 2**64, [str(2**64)]),
    ("BIGINT[]", [1], ["1"]),
])  # fmt: skip
def test_labels_of_every_kind_of_column_are_compared(kind, given, truths):
    for truth in truths:
        rows = [{"_request_id": "a", "at_us": 1, "label": given}]
        assert right_of(whole(rows, [said(label=truth)], fields={"label": kind})) == (1, 1), truth


def test_labels_that_are_text_are_compared_letter_by_letter():
    target = Target(task=Task.CLASSIFICATION, label="label")
    rows = [{"_request_id": "a", "at_us": 1, "label": "1.0"}]
    for truth, right in (("1.0", 1), ("1", 0), ("1.0 ", 0)):
        one = whole(rows, [said(label=truth)], fields={"label": "VARCHAR"}, target=target)
        assert right_of(one) == (right, 1)


def test_big_whole_numbers_are_not_rounded_together():
    big = 2**60 + 1
    rows = [{"_request_id": "a", "at_us": 1, "label": big}]
    assert right_of(whole(rows, [said(label=str(big))])) == (1, 1)
    assert right_of(whole(rows, [said(label=str(big - 1))])) == (0, 1)


@pytest.mark.parametrize("arrivals", [(7, 3), (10**15 + 1, 10**15), (5, None), (None, None)])
def test_of_equal_times_the_message_that_arrived_last_holds_and_old_ones_are_the_earliest(arrivals):
    last, first = (
        said(label=label, arrived_us=at) for label, at in zip("10", arrivals, strict=True)
    )
    if arrivals != (None, None):
        assert right_of(whole(ASKED, [last, first])) == (1, 1)
    assert right_of(whole(ASKED, [first, last])) == (1, 1)


def test_a_retry_that_comes_after_the_correction_does_not_undo_it():
    wrong = said(label="0", _id="m")
    messages = [wrong, said(label="1", _id="c", at_us=300), wrong | {"at_us": 400}]
    assert right_of(whole(ASKED, messages)) == (1, 1)


def test_equal_ids_of_different_senders_are_different_messages():
    messages = [
        said(label="0", _id="1", _principal="x"),
        said(label="1", _id="1", _principal="y", at_us=300),
    ]
    assert right_of(whole(ASKED, messages)) == (1, 1)


def test_a_message_without_a_part_leaves_it_as_it_is():
    messages = [
        said(label="1"),
        said(outcomes={"revenue": 3.0}, at_us=300),
        said(outcomes={"cost": 1.0}, at_us=301),
    ]
    one = whole(ASKED, messages)
    assert right_of(one) == (1, 1)
    assert [(b.metric, b.total) for b in one.outcomes] == [("cost", 1.0), ("revenue", 3.0)]


def test_a_key_means_its_last_request_before_the_message():
    rows = [
        {"_request_id": f"r{n}", "at_us": n * 100, "_key": "k", "label": n % 2} for n in (1, 2, 3)
    ]
    by_key = {"_key": "k", "label": "0"}
    assert right_of(whole(rows, [by_key | {"at_us": 99}])) == (0, 0)
    assert right_of(whole(rows, [by_key | {"at_us": 100}])) == (0, 1)
    assert right_of(whole(rows, [by_key | {"at_us": 250}])) == (1, 1)
    assert right_of(whole(rows, [by_key | {"at_us": 10_000}])) == (0, 1)
    assert right_of(whole(rows, [by_key | {"_key": "other", "at_us": 250}])) == (0, 0)


def test_a_key_finds_the_request_that_callers_saw_and_its_shadow_not_a_later_shadow():
    seen = {"_request_id": "a", "at_us": 100, "_key": "k", "label": 1}
    rows = [seen, seen | {"_role": "shadow", "_version": 2, "at_us": 110},
            seen | {"_request_id": "b", "_role": "shadow", "_version": 2, "at_us": 150}]  # fmt: skip
    found = slices(rows, [{"_key": "k", "label": "1", "at_us": 200}])
    assert [(s.version, s.predictions, s.labelled) for s in found.slices] == [(1, 1, 1), (2, 2, 1)]


@pytest.mark.parametrize(("later", "right"), [("key", 1), ("request", 0)])
def test_the_latest_holds_whether_it_names_the_request_or_the_key_a_row_or_all(later, right):
    times = (300, 200) if later == "key" else (200, 300)
    by_key = {"_key": "k", "_row": 0, "label": "1", "at_us": times[0]}
    assert right_of(whole(ASKED, [by_key, said(label="0", at_us=times[1])])) == (right, 1)


def test_clients_that_number_all_requests_alike_are_kept_apart_by_key():
    rows = [{"_request_id": "1", "at_us": 100 + n, "_key": f"k{n}", "label": 1} for n in range(5)]
    one = whole(rows, [{"_key": "k3", "label": "1", "at_us": 500}])
    assert right_of(one) == (1, 1)


def test_a_later_prediction_takes_its_key_over_even_outside_of_the_time_asked_for():
    rows = [{"_request_id": f"r{n}", "at_us": n * 100, "_key": "k", "label": 1} for n in (1, 2)]
    until = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=150)
    one = whole(rows, [{"_key": "k", "label": "1", "at_us": 500}], wanted=Range(until=until))
    assert (one.predictions, one.labelled) == (1, 0)
    one = whole(
        rows, [{"_request_id": "r1", "label": "1", "at_us": 500}], wanted=Range(until=until)
    )
    assert (one.predictions, one.labelled) == (1, 1)


def test_an_outcome_of_a_whole_request_counts_once_and_a_label_for_each_row():
    rows = [{"_request_id": "a", "_row": row, "at_us": 100, "label": 1} for row in range(3)]
    one = whole(rows, [said(label="1", outcomes={"revenue": 9.0})])
    assert right_of(one) == (3, 3)
    assert [(b.n, b.total) for b in one.outcomes] == [(1, 9.0)]


def test_names_with_quotes_are_names():
    target = Target(task=Task.CLASSIFICATION, label='la"b\'el', is_number=True, classes=("0", "1"),
                    probabilities='p"')  # fmt: skip
    rows = [{"_request_id": "a'; DROP", "at_us": 1, "la\"b'el": 1, 'p"': [0.2, 0.8]}]
    fields = {'la""b\'el': "BIGINT", 'p""': "DOUBLE[]"}
    with opened(fields, []) as connection:
        connection.execute(
            'INSERT INTO kept (_request_id, _row, _at, _version, _role, "la""b\'el", "p""")'
            " VALUES ('a', 0, make_timestamptz(1), 1, 'primary', 1, [0.2, 0.8])"
        )
        found = performance(connection, "churn", {1: target}, Range())
    assert rows
    assert found.slices[0].predictions == 1


def test_nothing_logged_is_no_slice():
    assert slices([], []).slices == ()


def test_what_a_request_is_explained_with_is_what_the_join_finds_to_be_about_it():
    predictions = [
        {"_request_id": "old", "at_us": 10, "_key": "k", "label": 1},
        {"_request_id": "new", "at_us": 20, "_key": "k", "label": 1},
        {
            "_request_id": "new",
            "at_us": 25,
            "_key": "k",
            "label": 1,
            "_role": "shadow",
            "_version": 2,
        },
        {"_request_id": "other", "at_us": 15, "_key": "k2", "label": 1},
        {"_request_id": "keyless", "at_us": 15, "label": 1},
    ]
    feedback = [
        {"_key": "k", "at_us": 5, "label": "before all"},
        {"_key": "k", "at_us": 12, "label": "of old", "_id": "m", "_principal": "shop", "_row": 0},
        {"_key": "k", "at_us": 30, "label": "again", "_id": "m", "_principal": "shop"},
        {"_key": "k", "at_us": 31, "label": "of new"},
        {
            "_request_id": "old",
            "_key": "k",
            "at_us": 32,
            "score": 2.5,
            "outcomes": {"revenue": 1.0},
        },
        {"_key": "k2", "at_us": 33, "label": "of other"},
        {"_key": "k2", "at_us": 40, "label": "sent as k2", "_id": "n", "_principal": "shop"},
        {"_key": "k", "at_us": 41, "label": "sent again", "_id": "n", "_principal": "shop"},
        {"_request_id": "never answered", "at_us": 34, "label": "of nothing"},
    ]
    with opened(FIELDS, predictions, feedback) as connection:

        def found(request_id):
            attributed(connection, request_id)
            return connection.execute(
                "SELECT * REPLACE (epoch_us(_at) AS _at) FROM attributed"
            ).fetchall()

        def labels(request_id):
            return [row[5] for row in found(request_id)]

        assert found("old") == [
            (None, 0, "k", 12, "m", "of old", None, {}, "shop"),
            ("old", None, "k", 32, None, None, 2.5, {"revenue": 1.0}, None),
        ]
        assert labels("new") == ["of new"]
        assert labels("other") == ["of other", "sent as k2"]
        assert labels("keyless") == []
        assert labels("never answered") == ["of nothing"]
