"""YAML of people as plain values, within bounds that a document cannot leave.

YAML's own dangers: tags that make objects (never made here), aliases that a few lines multiply to
gigabytes, nesting that costs the parser the square of its depth, and numbers and dates that Python refuses.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

MOST_DEPTH = 50
MOST_BRACKETS = 4 * MOST_DEPTH
"""Open at once, those in texts and comments included."""

MOST_NODES = 20_000
"""Values of one document, those that aliases stand for included."""

_BRACKETS = re.compile(r"[\[\]{}]")


def documents_of(text: str) -> list[Any]:
    """The documents of a YAML text.

    Raises:
        ValueError: it is no YAML, or leaves the bounds; the message says where, and is one line.
    """
    _require_shallow(text)
    try:
        return list(yaml.load_all(text, _Bounded))
    except (yaml.YAMLError, ValueError, OverflowError, AttributeError, RecursionError) as exc:
        # AttributeError: PyYAML looks into a date of a wrong form without having found one.
        raise ValueError(" ".join(str(exc).split())) from exc


def _require_shallow(text: str) -> None:
    """Refuses a heap of brackets before PyYAML reads it, which takes seconds for a thousand."""
    depth = 0
    for bracket in _BRACKETS.findall(text):
        depth += 1 if bracket in "[{" else -1
        if depth > MOST_BRACKETS:
            raise ValueError("nested too deep")


class _Bounded(yaml.SafeLoader):
    """PyYAML's safe loader, which counts what it composes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._nodes = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Called by PyYAML for each value."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it out
        if isinstance(event, yaml.AliasEvent):
            self._count(self._sizes.get(event.anchor or "", MOST_NODES), event)
            return super().compose_node(parent, index)
        before, self._depth = self._nodes, self._depth + 1
        self._count(1, event)
        self._sizes.pop(event.anchor or "", None)  # what had this name before is not meant within
        node = super().compose_node(parent, index)
        self._depth -= 1
        if event.anchor is not None:
            self._sizes[event.anchor] = self._nodes - before
        return node

    def _count(self, nodes: int, event: Any) -> None:
        self._nodes += nodes
        if self._depth > MOST_DEPTH:
            raise yaml.MarkedYAMLError(problem="nested too deep", problem_mark=event.start_mark)
        if self._nodes > MOST_NODES:
            fact = "too many values, or an alias of itself"
            raise yaml.MarkedYAMLError(problem=fact, problem_mark=event.start_mark)
        if isinstance(event, yaml.ScalarEvent):
            event.value.encode()  # half a pair of surrogates is no text
