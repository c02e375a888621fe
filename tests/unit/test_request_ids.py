"""What is the id of a request: one rule, whichever way it comes."""

from hypothesis import given
from hypothesis import strategies as st

from shipway.wire.request_ids import HEADER, header_of, own_id, told_id

TEXT = st.text(st.characters(codec="utf-8"), max_size=210).map(lambda text: text.strip(" \t"))


@given(TEXT)
def test_an_id_is_accepted_or_refused_alike_in_the_dialect_and_in_the_header(text):
    assert own_id(text, {}) == own_id("", {HEADER: text.encode()})


@given(TEXT)
def test_an_id_is_kept_as_it_is_or_not_at_all(text):
    assert own_id(text, {}) in (text, "")


def test_the_dialects_id_goes_before_the_header_unless_it_is_none():
    headers = {HEADER: b" header\t"}
    assert own_id("body", headers) == "body"
    assert own_id("x" * 201, headers) == "header"
    assert own_id("", headers) == "header"


@given(TEXT)
def test_what_is_told_is_one_line_of_ascii(text):
    told = told_id(header_of(text))
    assert told.isascii()
    assert told.isprintable()
