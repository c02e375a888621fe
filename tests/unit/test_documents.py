"""YAML of people, and YAML made to break who reads it."""

import time

import pytest

from shipway.bundles.documents import MOST_DEPTH, MOST_NODES, documents_of
from shipway.cli.specs import policies_in, specs_in
from shipway.core.errors import InvalidSpec

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
)


def test_documents_are_plain_values_and_may_share_parts():
    text = (
        "- &limits {max_queue: 3}\n- {name: e, limits: *limits}\n---\n{<<: {a: 1}, b: 2026-01-02}"
    )
    shared, merged = documents_of(text)
    assert shared == [{"max_queue": 3}, {"name": "e", "limits": {"max_queue": 3}}]
    assert merged["a"] == 1


@pytest.mark.parametrize("text", ["&a [1]\n---\n&a [*a]", "- &a [1]\n- &a [*a]"])
def test_an_alias_of_itself_is_refused_whatever_had_its_name_before(text):
    with pytest.raises(ValueError, match=r"alias|anchor"):
        documents_of(text)


@pytest.mark.parametrize(
    "text",
    [
        LAUGHS, "&a [*a]", "&a {b: *a}", "[" * 3000, "{a: " * 3000, "- " * (MOST_DEPTH + 1) + "x",
        "[" + "a, " * MOST_NODES + "a]", "x: !!python/object/apply:os.system [touch /tmp/x]",
        "!!python/name:os.system", "x: !!timestamp nonsense", "x: 2026-02-30", "x: " + "9" * 5000,
        "x: !!int 0x", "x: !!float a", 'x: "\\ud800"', "x: \0", "? {a: b}\n: c\n", "a: *b", "a: [1",
        "x: !!binary \xe9",
    ],
)  # fmt: skip
def test_what_is_made_to_break_is_refused_soon_and_in_one_line(text, tmp_path):
    began = time.process_time()
    with pytest.raises(ValueError) as found:  # noqa: PT011 - any words
        documents_of(text)
    assert time.process_time() - began < 3
    assert "\n" not in str(found.value)
    file = tmp_path / "spec.yaml"
    file.write_text(text, errors="surrogatepass")
    for read in (specs_in, policies_in):
        with pytest.raises(InvalidSpec):
            read(file)


@pytest.mark.parametrize("brackets", ["[", "{a: "])
def test_a_heap_of_brackets_costs_nothing(brackets):
    began = time.process_time()
    with pytest.raises(ValueError, match="deep"):
        documents_of(brackets * 3000)
    assert time.process_time() - began < 0.1


def test_numbers_that_people_do_not_mean_become_no_name():
    (value,) = documents_of("name: 190:20:30\nmodel: 1_000\n")
    assert value == {"name": 685230, "model": 1000}
