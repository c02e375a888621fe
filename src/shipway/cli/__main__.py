"""`python -m shipway.cli`: the command line, where the script `shipway` is not on the path."""

from __future__ import annotations

from shipway.cli.main import run

if __name__ == "__main__":
    run()
