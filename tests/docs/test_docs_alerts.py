"""Each default rule has a runbook, its commands are ones that the command line takes, and the page's blocks are true."""

from __future__ import annotations

import re
import shlex
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import typer.main
import yaml

from shipway.cli.main import app
from shipway.core.alerts.defaults import DEFAULT_RULES, SERVER_RULES, SLO_BURN, runbook_of
from shipway.core.alerts.messages import Message, MessageKind, document_of, filled
from shipway.core.measures import measure_of
from shipway.wire.specs import spec_of
from shipway.wire.webhooks import signature_of

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted((ROOT / "docs" / "runbooks").glob("*.md"))
PAGE = (ROOT / "docs" / "howto" / "alerts.md").read_text()
RULES = [*DEFAULT_RULES, *SERVER_RULES]
CODE = re.compile(r"```console\n(.*?)```|`(shipway [^`]+)`", re.DOTALL)


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def commands(text):
    """The `shipway` commands in blocks and between backticks, without comments."""
    for block, inline in CODE.findall(text):
        for line in (block or inline).splitlines():
            line = line.removeprefix("$ ").partition(" #")[0].strip()
            if line.startswith("shipway "):
                yield shlex.split(line)[1:]


def fault_of(words):
    """Why the command line does not take a command; empty when it does. Nothing is run."""
    command = typer.main.get_command(app)
    while words and hasattr(command, "commands"):
        if words[0] not in command.commands:
            if words[0].startswith("-") or getattr(command, "invoke_without_command", False):
                break
            return f"no command `{words[0]}`"
        command, words = command.commands[words[0]], words[1:]
    known = {name for parameter in command.params for name in (*parameter.opts,)}
    unknown = [word for word in words if word.startswith("--") and word not in known]
    takes = sum(p.param_type_name == "argument" for p in command.params)
    given = _arguments(command, words)
    if unknown:
        return f"no option {unknown}"
    return f"{given} arguments, it takes {takes}" if given > takes else ""


def _arguments(command, words):
    flags = {name for p in command.params if getattr(p, "is_flag", False) for name in p.opts}
    count, skip = 0, False
    for word in words:
        if skip:
            skip = False
        elif word.startswith("-"):
            skip = word not in flags
        else:
            count += 1
    return count


def test_every_default_rule_has_a_runbook():
    wanted = {runbook_of(rule.name, rule.runbook) for rule in RULES} | {runbook_of(SLO_BURN)}
    assert {f"docs/runbooks/{path.name}" for path in RUNBOOKS} == wanted


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_a_runbook_says_what_it_means_how_to_confirm_what_to_do_and_how_to_prevent_it(path):
    text = path.read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert text.startswith(f"# {path.stem}\n")
    assert headings == [
        "What it means",
        "How to confirm",
        "What to do",
        "How to prevent it",
    ]
    confirm = text.split("## How to confirm")[1].split("## What to do")[0]
    assert list(commands(confirm)), "no command to confirm it"


@pytest.mark.parametrize(
    "path", [*RUNBOOKS, ROOT / "docs" / "howto" / "alerts.md"], ids=lambda path: path.stem
)
def test_commands_of_runbooks_are_ones_that_there_are(path):
    found = list(commands(path.read_text()))
    assert found
    assert [(words, fault) for words in found if (fault := fault_of(words))] == []


@pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)
def test_measures_that_runbooks_name_are_ones_that_there_are(path):
    for words in commands(path.read_text()):
        for option, name in pairwise(words):
            if option == "--measure":
                measure_of(name, "churn")


def test_a_command_that_there_is_not_is_noticed():
    assert fault_of(["alerts", "shoe", "x"])
    assert fault_of(["alerts", "show", "x", "y"])
    assert fault_of(["rollback", "churn", "--now"])
    assert not fault_of(["alerts"])


def test_specs_of_the_page_are_valid():
    specs = [spec_of(yaml.safe_load(block)) for block in blocks("yaml")]
    assert len(specs) == 2
    assert all(spec.alerts is not None for spec in specs)


def test_the_verification_of_the_page_takes_what_is_sent_and_nothing_else():
    (code,) = blocks("python")
    names = {}
    exec(code, names)
    at_s = int(names["time"].time())
    header = signature_of("whsec_x", b'{"a": 1}', at_s=at_s)
    assert names["is_ours"](header, b'{"a": 1}', "whsec_x")
    assert not names["is_ours"](header, b'{"a": 2}', "whsec_x")
    assert not names["is_ours"](header, b'{"a": 1}', "whsec_y")
    old = signature_of("whsec_x", b"", at_s=at_s - 301)
    assert not names["is_ours"](old, b"", "whsec_x")


def test_the_template_of_the_page_is_filled_whole():
    (template,) = (msgspec.json.decode(block) for block in blocks("json"))
    message = Message(kind=MessageKind.RETRAIN, environment="dev", endpoint="churn", reason="drift")
    text = msgspec.json.encode(filled(template, document_of(message, "id"))).decode()
    assert "{" not in text.replace('{"', "")
    assert "drift" in text
