"""What strangers wrote into the record does nothing to a terminal or a spreadsheet that shows it."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from typing import Any

import pytest
from typer.testing import CliRunner

from shipway.cli.audits import csv_of, jsonl_of, show_event, show_events
from shipway.cli.main import app
from shipway.core.audit import AuditEvent, Change, next_event
from shipway.core.errors import InvalidRequest
from shipway.wire.audit import links_in

AT = datetime(2026, 1, 1, tzinfo=UTC)


def event(**fields: Any) -> AuditEvent:
    given = {"at": AT, "actor": "ada", "action": "a.b", "subject": "churn", **fields}
    return next_event(Change(**given), None)


@pytest.mark.parametrize("show", [show_event, lambda one: show_events([one])])
def test_terminal_sees_no_control_character(show: Any, capsys: pytest.CaptureFixture[str]) -> None:
    show(event(actor="e\x1b[2Jve\r\nroot", subject="a\x07b", details={"reason": "\x1b]0;x"}))
    said = capsys.readouterr().out
    assert not set(said) & set("\x1b\x07\r")
    assert "root" in said


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_spreadsheet_sees_no_formula(start: str) -> None:
    lines = b"".join(csv_of([event(actor=f"{start}1+1", subject='a,"b"')])).decode()
    header, row = csv.reader(lines.splitlines())
    assert row[header.index("actor")] == f"'{start}1+1"
    assert row[header.index("subject")] == 'a,"b"'


def test_export_reads_back_as_it_was_and_a_strange_line_is_named() -> None:
    made = event(details={"text": "ä\n\u2028", "n": 1.5})
    lines = list(jsonl_of([made]))
    assert list(links_in(lines, source="`x`")) == [made]
    assert lines[0].count(b"\n") == 1
    for strange in (b"{}\n", b"\xff\n", b'{"event": 3}\n', b"\n"):
        with pytest.raises(InvalidRequest, match="Line 2 of `x`"):
            list(links_in([*lines, strange], source="`x`"))


@pytest.mark.parametrize("words", [["--file", "x.jsonl"], ["--public-key", "audit.pub"]])
def test_file_is_verified_only_with_the_keys_to_believe(words: list[str]) -> None:
    done = CliRunner().invoke(app, ["audit", "verify", *words])
    assert done.exit_code == 2
    assert "go together" in done.output
