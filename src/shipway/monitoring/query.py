"""`python -m shipway.monitoring.query`: answers the question on stdin, and ends.

What went wrong is one JSON line on stdout.
"""

from __future__ import annotations

import sys

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.monitoring.bounds import bind
from shipway.monitoring.questions import Question, answer


def main() -> int:
    """Answers one question; gives the exit code."""
    bind()
    question = msgspec.json.decode(sys.stdin.buffer.read(), type=Question)
    try:
        answer(question)
    except ShipwayError as exc:
        sys.stdout.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
