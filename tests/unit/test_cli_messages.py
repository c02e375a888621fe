import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from shipway.cli.following import lines_after
from shipway.cli.main import app, run
from shipway.cli.manifests import histogram_bars
from shipway.cli.messages import MESSAGES, Exit, message_of, words_of
from shipway.cli.rows import rows_from
from shipway.cli.specs import specs_in
from shipway.core import errors
from shipway.core.errors import InvalidRequest, InvalidSpec, ShipwayError
from shipway.core.profile import column_profile

HEAVY = {"numpy", "fastapi", "sqlalchemy", "onnxruntime", "pyarrow", "httpx", "pydantic", "rich"}


def tree(kind=ShipwayError):
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


def test_every_error_has_words_and_an_exit_code():
    assert {kind for kind in tree() if kind.__module__ == errors.__name__} == set(MESSAGES)
    assert all(words.exit_code is not Exit.OK for words in MESSAGES.values())


def test_a_message_says_what_happened_and_what_to_do_next():
    error = errors.ServerUnreachable("No server at `x`.", next_step="Start one: `shipway up`.")
    assert message_of(error) == "No server: No server at `x`.\n  Next: Start one: `shipway up`."
    assert words_of(error).exit_code == 6


def test_an_unknown_subclass_speaks_like_its_parent():
    class Newer(errors.PortTaken):
        code = "port_taken"

    assert words_of(Newer("x")) == MESSAGES[errors.PortTaken]


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom shipway.cli.main import run\nsys.argv = ['shipway', '--help']\n"
        "try:\n    run()\nfinally:\n    print('LOADED', *sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stderr.rpartition("LOADED")[2].split())
    assert not HEAVY & loaded
    assert "predict" in done.stdout


def commands_of(group):
    """Every command by its whole name."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", own) for inner, own in commands_of(command))
        else:
            yield name, command


def test_every_command_explains_itself_and_its_options():
    root = typer.main.get_command(app)
    for name, command in commands_of(root):
        assert command.help, name
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.help, f"{name} {parameter.opts}"


def test_every_change_can_be_tried_dry_and_every_command_answers_in_json():
    options = {
        name: {option for p in command.params for option in p.opts}
        for name, command in commands_of(typer.main.get_command(app))
    }
    words = [f"rollout {word}" for word in ("pause", "resume", "promote", "abort")]
    for name in ("apply", "delete", "deploy", "rollback", *words):
        assert "--dry-run" in options[name]
    silent = {"up", "down", "demo", "schema", "audit export", "control", "gateway", "replica"}
    # These write files that other programs read.
    silent |= {f"export {what}" for what in ("grafana", "prometheus-rules", "prometheus-config")}
    assert {name for name, found in options.items() if "--json" not in found} <= silent


def shipway(*words, cwd=None, stdin=""):
    environ = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    return subprocess.run(
        [sys.executable, "-m", "shipway.cli", *words],
        capture_output=True,
        text=True,
        cwd=cwd,
        input=stdin,
        env=environ,
        check=False,
    )


def test_no_server_is_one_clear_line_and_exit_code_six(tmp_path):
    done = shipway("models", "--server", "http://127.0.0.1:9")
    assert done.returncode == 6
    assert "http://127.0.0.1:9" in done.stderr
    assert "shipway up" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_option_is_a_usage_error():
    assert shipway("models", "--jsno").returncode == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("replcias: 2\nname: churn\nmodel: churn", "Did you mean `replicas`?"),
        ("name: churn\nmodel: churn\nlimits: {max_queu: 3}", "Did you mean `limits.max_queue`?"),
        ("name: churn", "model"),
        ("name: churn\nmodel: churn\nreplicas: 0", "replicas"),
        ("name: Churn!\nmodel: churn", "Churn!"),
        ("name: churn\nmodel: 'churn:0'", "churn:0"),
        ("- 1", "not a mapping"),
        ("a: [", "not YAML"),
        ("", "holds no endpoint"),
    ],
)
def test_a_wrong_spec_is_refused_with_its_place(tmp_path, text, said):
    file = tmp_path / "churn.yaml"
    file.write_text(text)
    with pytest.raises(InvalidSpec, match=re.escape(said)):
        specs_in(file)


def test_a_file_may_hold_several_endpoints(tmp_path):
    file = tmp_path / "all.yaml"
    file.write_text("name: a\nmodel: m\n---\nname: b\nmodel: m:2\nlimits: {deadline_ms: 50}\n")
    first, second = specs_in(file)
    assert (first.name, second.name, second.limits.deadline_ms) == ("a", "b", 50)


def test_rows_come_from_json_a_file_or_stdin(tmp_path):
    assert rows_from(source='{"a": 1, "b": 2}', path=None, drop=["b"]) == {"a": 1}
    assert rows_from(source='[{"a": 1}]', path=None, drop=[]) == [{"a": 1}]
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")
    assert rows_from(source=None, path=file, drop=["b"])["a"].tolist() == [1]
    for source, path in ((None, None), ("-", file)):
        with pytest.raises(InvalidRequest, match="command line"):
            rows_from(source=source, path=path, drop=[])


def test_following_prints_each_line_once():
    assert list(lines_after(["a", "b"], ["a", "b", "c"])) == ["c"]
    assert list(lines_after(["a", "b"], ["b", "c", "d"])) == ["c", "d"]
    assert list(lines_after(["a"], ["x", "y"])) == ["x", "y"]
    assert list(lines_after([], ["x"])) == ["x"]
    assert list(lines_after(["a"], ["a"])) == []


def test_bars_show_where_the_values_are():
    import numpy as np

    numbers = column_profile(np.array([0.0] * 5 + [1.0] * 90 + [2.0] * 5)).numeric
    bars = histogram_bars(numbers, width=4)
    assert len(bars) == 4
    assert max(bars) == "█"


def test_the_package_imports_no_path_of_this_machine():
    source = Path(__file__).parents[2] / "src"
    assert not [p for p in source.rglob("*.py") if str(source.parent) in p.read_text()]


def test_an_error_that_nobody_foresaw_is_told_in_words_and_kept_in_a_file(monkeypatch, capsys):
    def fails():
        raise RuntimeError("the moon is away")

    monkeypatch.setattr("shipway.cli.main.app", fails)
    with pytest.raises(SystemExit) as caught:
        run()
    said = capsys.readouterr().err
    assert caught.value.code == Exit.BUG
    assert "the moon is away" in said
    assert "Traceback" not in said
    kept = Path(re.findall(r"`(/.*\.log)`", said)[0])
    assert "Traceback" in kept.read_text()
    kept.unlink()
