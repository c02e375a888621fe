"""Text of strangers in terminals and logs."""

import io
import json
import logging

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.cli.messages import message_of
from shipway.core.errors import InvalidSpec
from shipway.core.text import indented, printable, printable_json
from shipway.engines.incidents import log_unexpected
from shipway.engines.logs import PlainFormatter

HOSTILE = "a\x1b[2J\x1b]0;title\x07\r\x08\x9b31m\x7f\u202etxt.exe\u2066\u2028b\x00\x85c\ufeff"


def obeyed(text):
    """What a terminal would obey, or take for the end of a line."""
    return [c for c in text if not c.isprintable() and c not in " \n\t"]


@pytest.mark.parametrize("text", [HOSTILE, "\ud800", *map(chr, range(32)), "\u200f", "\u061c"])
def test_nothing_that_a_terminal_obeys_is_left(text):
    assert obeyed(printable(text)) == []
    printable(text).encode()


def test_ordinary_text_is_shown_as_it_is():
    text = "né 東京 \t🙂 `x`\n"
    assert printable(text) == text
    assert printable("\x1b[31m") == r"\x1b[31m"


@given(st.text())
def test_no_further_line_begins_at_the_margin(text):
    first, *others = indented(text).splitlines() or [""]
    assert all(line.startswith("    ") for line in others)
    assert obeyed(first) == [] or set(obeyed(first)) <= set(obeyed(text)) - set(HOSTILE)


@given(st.text() | st.sampled_from([HOSTILE, "\\u001b", "\\\\x", '"\\r"', "🙂\\", "\\"]))
def test_json_that_is_made_printable_holds_nothing_that_a_terminal_obeys(text):
    value = [text, {"k\r": text}]
    for body in (msgspec.json.encode(value), json.dumps(value).encode()):
        shown, within = msgspec.json.decode(printable_json(body))
        assert shown == printable(shown) == next(iter(within.values()))
        assert list(within) == ["k\\r"]
        assert shown == text or printable(text) != text


def test_a_log_record_has_one_line_at_the_margin():
    out = io.StringIO()
    logger = logging.Logger("x")
    handler = logging.StreamHandler(out)
    handler.setFormatter(PlainFormatter("%(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.warning("%s exited: %s", "a\nINFO all is well", HOSTILE)
    try:
        raise ValueError("b\nINFO all is well\x1b[2J")
    except ValueError:
        logger.exception("c\r\nINFO all is well")
    lines = out.getvalue().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["WARNING", "ERROR"]
    assert obeyed(out.getvalue()) == []


def test_what_a_model_raises_forges_no_last_word(capsys):
    log_unexpected(
        ValueError('no\n{"error":"bug","message":"forged"}\x1b[2J'), heading="incident 1\n"
    )
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "incident 1"
    assert not any(line.startswith("{") for line in lines)
    assert obeyed("".join(lines)) == []


def test_an_errors_words_forge_no_line_of_the_command_line():
    error = InvalidSpec("`a\nRefused: b\x1b[2J` is no name.", next_step="c\nd")
    assert [line[:1] for line in message_of(error).splitlines()] == ["I", " ", " ", " "]
    assert obeyed(message_of(error)) == []
