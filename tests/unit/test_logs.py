"""Lines of logs as JSON: always one object a line, whatever is in them."""

import json
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.engines.failures import MOST_PER_S, FailureLog
from shipway.engines.incidents import model_failed
from shipway.engines.logs import (
    FIELDS,
    LISTENERS,
    LOG_FORMAT,
    JsonFormatter,
    PlainFormatter,
    is_json,
)
from shipway.wire.request_ids import HEADER, MOST_CHARACTERS, given_id

ANY_TEXT = st.text(st.characters(), max_size=60)


def formatted(message, **fields):
    record = logging.LogRecord("shipway.x", logging.ERROR, "f", 1, "%s", (message,), None)
    record.__dict__.update(fields)
    return JsonFormatter().format(record)


@given(ANY_TEXT, ANY_TEXT)
def test_any_text_is_one_object_in_one_line_that_no_terminal_obeys(message, request_id):
    line = formatted(message, request_id=request_id)
    assert "\n" not in line
    assert line.isprintable() or not any(ord(one) < 32 or ord(one) == 127 for one in line)
    read = json.loads(line)
    assert (read["level"], read["logger"]) == ("ERROR", "shipway.x")
    assert read.get("request_id", "") != "" or not request_id


@given(st.text('abc 0123\n\t"\\é', max_size=40))
def test_text_is_read_as_it_was_written(message):
    assert json.loads(formatted(message))["message"] == message


def test_fields_are_members_and_others_are_left_out():
    read = json.loads(formatted("x", request_id="r", status=500, password="pw"))
    assert read.keys() == {"time", "level", "logger", "message", "request_id", "status"}
    assert read["status"] == 500
    assert read["time"].endswith("+00:00")
    assert {"request_id", "trace_id", "endpoint"} <= set(FIELDS)


def test_text_has_the_ids_behind_the_message_and_before_the_traceback():
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "failed", (), (ValueError, None, None))
    record.__dict__.update(request_id="r1", trace_id="ab" * 16, status=500)
    first, *rest = PlainFormatter("%(message)s").format(record).splitlines()
    assert first == f"failed request_id=r1 trace_id={'ab' * 16}"
    assert rest


def test_json_shows_no_password_of_a_traceback():
    try:
        raise ValueError("cannot parse postgresql://u:canary@h/x")
    except ValueError as exc:
        record = logging.LogRecord(
            "x", logging.ERROR, "f", 1, "failed", (), (type(exc), exc, exc.__traceback__)
        )
    line = JsonFormatter().format(record)
    assert "Traceback" in json.loads(line)["message"]
    assert "canary" not in line


@pytest.mark.parametrize(
    ("value", "expected"), [("json", True), (" JSON ", True), ("text", False), ("", False)]
)
def test_variable_says_which_form(value, expected):
    assert is_json({LOG_FORMAT: value}) is expected
    assert not is_json({})


@pytest.mark.parametrize("form", ["json", "text"])
def test_incident_of_a_model_names_its_trace_in_either_form(form, monkeypatch, capsys):
    monkeypatch.setenv(LOG_FORMAT, form)
    error = model_failed(
        ValueError("no\x1b[2J"), whose="Its", trace=f"00-{'ab' * 16}-{'cd' * 8}-01"
    )
    said = capsys.readouterr().err
    assert error.details["incident"] in said
    assert "ab" * 16 in said
    assert "\x1b" not in said
    if form == "json":
        (line,) = said.splitlines()
        assert json.loads(line)["trace_id"] == "ab" * 16
        assert "ValueError: no" in json.loads(line)["message"]


def test_what_goes_past_the_loggers_is_told_to_listeners_with_its_trace(monkeypatch):
    told = []
    monkeypatch.setattr("shipway.engines.logs.LISTENERS", [*LISTENERS, told.append])
    model_failed(ValueError("no"), whose="Its", trace=f"00-{'ab' * 16}-{'cd' * 8}-00")
    (record,) = told
    assert (record.name, record.levelno) == ("shipway.incidents", logging.ERROR)
    assert record.trace_id == "ab" * 16
    assert "ValueError: no" in record.getMessage()


@given(st.binary(max_size=300))
def test_callers_id_is_short_and_in_one_line(given):
    shown = given_id({HEADER: given})
    assert "\n" not in shown
    assert "\x1b" not in shown
    assert len(shown) <= 10 * MOST_CHARACTERS


def test_outage_writes_ten_lines_a_second_and_the_number_of_the_rest(caplog):
    now = 100.0
    log = FailureLog(lambda: now)
    for number in range(500):
        log.note("POST /x", "away", request_id=f"r{number}", status=503)
    assert len(caplog.records) == MOST_PER_S
    now = 101.0
    log.note("POST /x", "away", request_id="later", status=503)
    assert [record.getMessage() for record in caplog.records[MOST_PER_S:]] == [
        "490 more requests failed, which have no line",
        "POST /x failed (503): away",
    ]
    assert caplog.records[-1].request_id == "later"
