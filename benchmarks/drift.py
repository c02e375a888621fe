"""What a drift run costs: ten million logged predictions of fifty features, summarised and compared.

    python benchmarks/drift.py [--rows 10000000] [--directory DIR]

The predictions are written as Parquet files, in time's order, as the prediction log has them: 45 numbers and
5 texts. Half of the rows are the reference, half the current window, in which `f7` has moved by half of its
spread and `t2` has another mix. A child process chooses the cells, summarises both windows and compares
them; its time and peak memory are measured. Exits with 1 when it takes a minute or a GiB, or finds
anything but these two.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from shipway.core.drift.verdicts import compare
from shipway.core.profile import ColumnKind
from shipway.monitoring.columns import Column
from shipway.monitoring.profiles import chosen_cells, summarised

MOST_S, MOST_MIB = 60, 1024
NUMBERS, TEXTS, FILES = 45, 5, 40
SINCE = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = timedelta(days=7)
MOVED = ["f7", "t2"]


class Options(argparse.Namespace):
    rows: int
    directory: Path | None
    child: bool


def written(directory: Path, rows: int) -> int:
    """Writes the log, one file for each part of the time, and returns its bytes."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET memory_limit = '1GB'; SELECT setseed(0.5)")
        for number in range(FILES):
            target = directory / f"{number:03}.parquet"
            if not target.exists():
                connection.execute(_copy(number, rows, target))
    return sum(path.stat().st_size for path in directory.glob("*.parquet"))


def _copy(number: int, rows: int, target: Path) -> str:
    is_late = number >= FILES // 2
    step_us = int(2 * WINDOW / timedelta(microseconds=1)) // rows
    first = number * (rows // FILES)
    # Sums of uniform numbers are about normal, and cheap; squares of them are skewed.
    normal = "(random() + random() + random() - 1.5)"
    values = [
        f"({normal} * {1 + at} {'^ 2' if at % 3 == 2 else ''}"
        f"{f'+ {0.25 * (1 + at)}' if at == 7 and is_late else ''})::FLOAT AS f{at}"
        for at in range(NUMBERS)
    ]
    power = {2: 3 if is_late else 2}
    values += [
        f"'kind ' || (30 * random() ^ {power.get(at, 2)})::INT AS t{at}" for at in range(TEXTS)
    ]
    return (
        f"COPY (SELECT uuid()::VARCHAR AS _request_id, 0 AS _row, to_timestamp({SINCE.timestamp()} + "
        f"({first} + i) * {step_us} / 1e6) AS _at, 1 AS _version, 'primary' AS _role, "
        f"random()::FLOAT AS _latency_ms, {', '.join(values)} FROM range({rows // FILES}) AS r(i)) "
        f"TO '{target}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 100000)"
    )


def drift_run(directory: Path) -> dict[str, object]:
    """What a monitor's process does, with what it took."""
    columns = [
        Column(name=f"f{at}", source=f"f{at}", kind=ColumnKind.NUMERIC) for at in range(NUMBERS)
    ]
    columns += [
        Column(name=f"t{at}", source=f"t{at}", kind=ColumnKind.CATEGORICAL) for at in range(TEXTS)
    ]
    middle, began = SINCE + WINDOW, time.monotonic()
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2; SET memory_limit = '512MB'")
        connection.execute(
            f"CREATE VIEW predictions AS SELECT * FROM read_parquet('{directory}/*.parquet')"
        )
        cells = chosen_cells(connection, columns, since=SINCE, until=middle)
        chosen_s = time.monotonic() - began
        before = summarised(connection, columns, cells, since=SINCE, until=middle)
        now = summarised(connection, columns, cells, since=middle, until=middle + WINDOW)
        report = compare(before, now)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return {
        "rows": before.rows + now.rows,
        "wall_s": time.monotonic() - began,
        "chosen_s": chosen_s,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "drifted": [one.column for one in report.drifted],
        "words": [f"{one.column}: {one.words}, since {one.since}" for one in report.drifted],
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path, help="keep the log there, for the next run")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(namespace=Options())
    if options.child and options.directory:
        print(json.dumps(drift_run(options.directory)))
        return 0
    with tempfile.TemporaryDirectory(prefix="shipway-drift-") as scratch:
        directory = options.directory or Path(scratch)
        directory.mkdir(exist_ok=True)
        size = written(directory, options.rows)
        command = [sys.executable, __file__, "--child", "--directory", str(directory)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    print(
        f"{found['rows']:,} predictions of {NUMBERS + TEXTS} features, {size / 2**20:,.0f} MiB of Parquet"
    )
    print(
        f"{found['wall_s']:.1f} s, of which {found['chosen_s']:.1f} s to choose cells (at most {MOST_S})"
    )
    print(f"{found['cpu_s']:.1f} s of CPU, {found['peak_mib']:.0f} MiB at most (limit {MOST_MIB})")
    print("\n".join(found["words"]))
    is_good = found["wall_s"] < MOST_S and found["peak_mib"] < MOST_MIB
    return 0 if is_good and sorted(found["drifted"]) == MOVED else 1


if __name__ == "__main__":
    sys.exit(main())
