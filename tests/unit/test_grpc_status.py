"""Errors as gRPC statuses: one table, complete, with words that fit into trailers."""

from base64 import b64decode
from urllib.parse import unquote

import pytest

import shipway.core.errors as errors
from shipway.gateway.grpc.messages import message_class
from shipway.gateway.grpc.status import CODE_OF, Code, code_of, percent_encoded, trailers_of
from shipway.wire.problems import STATUS_OF


def tree(kind):
    return {kind}.union(*(tree(child) for child in kind.__subclasses__()))


def status_in(trailers):
    data = trailers[b"grpc-status-details-bin"]
    return message_class("google.rpc.Status").FromString(b64decode(data + b"=" * (-len(data) % 4)))


def test_every_error_has_a_code_of_its_own_and_none_is_left_over():
    assert set(CODE_OF) == {kind.code for kind in tree(errors.ShipwayError)} == set(STATUS_OF)
    assert Code.OK not in CODE_OF.values()


def test_a_class_without_an_entry_has_its_parents(monkeypatch):
    monkeypatch.delitem(CODE_OF, "queue_full")
    assert code_of(errors.QueueFull("x")) is CODE_OF["caller_error"]


def test_who_is_at_fault_is_the_same_over_http_and_grpc():
    retryable = {429, 502, 503}
    for code, status in STATUS_OF.items():
        if CODE_OF[code] is Code.UNAVAILABLE:
            assert status in retryable, code
        if CODE_OF[code] is Code.NOT_FOUND:
            assert status == 404, code


@pytest.mark.parametrize("text", ["plain", "100 % é\n\r\x00", 'a `b` "c" ~', "é" * 5000])
def test_a_message_survives_the_trailers(text):
    encoded = percent_encoded(text)
    assert all(0x20 <= byte <= 0x7E for byte in encoded)
    assert text.startswith(unquote(encoded.decode()))
    assert len(text) > 1000 or unquote(encoded.decode()) == text


def test_a_full_queue_says_when_to_come_back():
    error = errors.QueueFull("Full.", next_step="Later.", retry_after_s=1.5, name="iris")
    trailers = dict(trailers_of(error))
    assert trailers[b"grpc-status"] == b"8"
    assert trailers[b"grpc-retry-pushback-ms"] == b"1500"
    status = status_in(trailers)
    assert (status.code, status.message) == (8, "Full. Later.")
    info, retry = message_class("google.rpc.ErrorInfo")(), message_class("google.rpc.RetryInfo")()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(retry)
    assert (info.reason, info.domain, info.metadata["name"]) == ("queue_full", "shipway", "iris")
    assert retry.retry_delay.ToMilliseconds() == 1500


def test_other_errors_promise_no_retry_and_large_facts_are_cut():
    error = errors.InvalidInput("x" * 10_000, value="y" * 10_000, **{f"f{i}": i for i in range(50)})
    trailers = dict(trailers_of(error))
    assert b"grpc-retry-pushback-ms" not in trailers
    assert len(status_in(trailers).details) == 1
    assert sum(map(len, trailers.values())) < 8000
