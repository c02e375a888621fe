"""The tutorial works: its blocks, in order, in a new directory, with a real server."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)
SESSION = """
import json, sys, traceback
names = {}
for line in sys.stdin:
    try:
        exec(json.loads(line), names)
        failure = ""
    except BaseException:
        failure = traceback.format_exc()
    print(json.dumps({"failure": failure}), flush=True)
"""


@pytest.fixture
def environment():
    own = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    return own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"}


@pytest.fixture
def session(tmp_path, environment):
    """One Python session, as a reader has it: each block sees what those before it defined."""
    process = subprocess.Popen(
        [sys.executable, "-c", SESSION],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def run(text):
        process.stdin.write(json.dumps(text) + "\n")
        process.stdin.flush()
        said = []
        for line in process.stdout:
            if line.startswith('{"failure"'):
                failure = json.loads(line)["failure"]
                assert not failure, f"{text}\n{failure}"
                return "".join(said)
            said.append(line)
        pytest.fail(f"the session ended in: {text}")

    yield run
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


@pytest.fixture
def shell(tmp_path, environment):
    def run(text):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    yield run
    run("shipway down")


def test_every_block_of_the_tutorial_runs_in_order(session, shell):
    runners = {"bash": shell, "python": session}
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())
    assert len(blocks) > 10
    said = "\n".join(runners[kind](text) for kind, text in blocks)
    assert "parity  holds" in said
