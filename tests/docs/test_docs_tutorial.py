"""The tutorial works: its blocks, in order, in a new directory, with a real server."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def environment():
    own = {k: v for k, v in os.environ.items() if not k.startswith("SHIPWAY_")}
    return own | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{own['PATH']}"}


def run(words, cwd):
    done = subprocess.run(
        words, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, f"{words[-1]}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def run_block(kind, text, earlier, cwd):
    if kind == "bash":
        return run(["bash", "-euo", "pipefail", "-c", text], cwd)
    # A reader's Python session goes on: each block sees what the blocks before it defined.
    return run([sys.executable, "-c", "\n".join([*earlier, text])], cwd)


def test_every_block_of_the_tutorial_runs_in_order(tmp_path):
    blocks = BLOCK.findall((ROOT / "docs" / "tutorial.md").read_text())
    assert len(blocks) > 10
    said = []
    setup = []
    try:
        for kind, text in blocks:
            said.append(run_block(kind, text, setup, tmp_path))
            if kind == "python" and not re.search(r"client\.(predict|register)\(", text):
                setup.append(text)
            elif kind == "python":
                kept = [line for line in text.splitlines() if line.startswith(("import", "client"))]
                setup.append("\n".join(kept))
    finally:
        subprocess.run(
            [sys.executable, "-m", "shipway.cli", "down"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            timeout=60,
            check=False,
        )
    everything = "\n".join(said)
    assert "parity  holds" in everything
    assert "Already registered" in everything
