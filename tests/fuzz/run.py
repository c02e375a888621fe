"""The long search, guided by coverage: `python tests/fuzz/run.py --seconds 600`.

Each target has its share of the time, in a process of its own with bounded memory. What breaks one is
kept below `.fuzz/`, and the exit code is then 1. Needs atheris, which `make fuzz` installs.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
KEPT = HERE.parent.parent / ".fuzz"
CASE_TIMEOUT_S = 10
MEMORY_MB = 3072
LONGEST_BYTES = 20_000
_EXECUTED = re.compile(r"stat::number_of_executed_units:\s+(\d+)")
_SLOWEST = re.compile(r"stat::slowest_unit_time_sec:\s+(\d+)")


def main() -> int:
    """Searches all targets, or the one that is named; prints how many cases each had."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="over all targets")
    parser.add_argument("--target")
    parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        _search(options.target, options.seconds)
    names = [options.target] if options.target else _names()
    total, broken = 0, []
    for name in names:
        cases, slowest, is_well = _in_process(name, max(1, options.seconds // len(names)))
        total += cases
        print(
            f"{name:16} {cases:>10,} cases, slowest {slowest} s, {'well' if is_well else 'BROKEN'}"
        )
        if not is_well:
            broken.append(name)
    print(f"{'all':16} {total:>10,} cases, {len(broken)} broken")
    return 1 if broken else 0


def _names() -> list[str]:
    sys.path.insert(0, str(HERE))
    from targets import TARGETS

    return list(TARGETS)


def _in_process(name: str, seconds: int) -> tuple[int, int, bool]:
    command = [sys.executable, str(HERE / "run.py"), "--alone", "--target", name]
    done = subprocess.run(
        [*command, "--seconds", str(seconds)], capture_output=True, check=False, timeout=seconds * 3 + 120
    )  # fmt: skip
    said = done.stderr.decode(errors="replace") + done.stdout.decode(errors="replace")
    if done.returncode:
        print(said[-3000:])
    executed, slowest = _EXECUTED.search(said), _SLOWEST.search(said)
    return (
        int(executed[1]) if executed else 0,
        int(slowest[1]) if slowest else 0,
        done.returncode == 0,
    )


def _search(name: str, seconds: int) -> None:
    """Does not return: the search ends the process."""
    import atheris

    sys.path.insert(0, str(HERE))
    with atheris.instrument_imports(include=["shipway"]):
        from seeds import SEEDS
        from targets import TARGETS
    corpus = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-"))
    for number, seed in enumerate(SEEDS[name]()):
        (corpus / str(number)).write_bytes(seed)
    KEPT.mkdir(exist_ok=True)
    flags = {
        "max_total_time": seconds,
        "timeout": CASE_TIMEOUT_S,
        "rss_limit_mb": MEMORY_MB,
        "max_len": LONGEST_BYTES,
        "print_final_stats": 1,
        "verbosity": 1,
        "artifact_prefix": f"{KEPT}/{name}-",
    }
    target = TARGETS[name]
    arguments = [f"-{flag}={value}" for flag, value in flags.items()]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], target)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
