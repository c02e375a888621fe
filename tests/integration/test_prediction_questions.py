"""What a stranger's condition can do: choose rows, and nothing else."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shipway.core.errors import DeadlineExceeded, InvalidRequest, StoreUnavailable
from shipway.monitoring import assessment, repetition
from shipway.monitoring.matching import Range
from shipway.monitoring.processes import run
from shipway.monitoring.questions import Format, Question, answer
from shipway.store.predictions.reading import LogFiles, bounded, connected
from shipway.store.predictions.tables import rows_of
from shipway.store.predictions.writing import write_table

sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from spooling import NOW, prediction, segment, texts


class Log:
    """A file with five requests of one row each."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (rows,) = rows_of(
            segment(
                prediction(
                    f"r-{i}",
                    at=NOW - timedelta(minutes=i),
                    inputs={
                        "age": np.array([40.0 + i]),
                        "plan": texts("basic" if i % 2 else "o'pro"),
                    },
                )
                for i in range(5)
            )
        ).rows
        self.path = directory / "it's a file.parquet"
        write_table(rows.table, self.path)
        self.files = LogFiles(predictions=((str(self.path),),))

    def ask(self, where: str, *, kind: Format = Format.JSON, files: LogFiles | None = None) -> Path:
        out = self.directory / f"out.{kind}"
        out.unlink(missing_ok=True)
        answer(
            Question(
                files=files or self.files,
                out=str(out),
                temp_dir=str(self.directory / "tmp"),
                timeout_s=60.0,
                where=where,
                format=kind,
            )
        )
        return out

    def asked(self, where: str) -> list[str]:
        rows = msgspec.json.decode(self.ask(where).read_bytes())["rows"]
        return [row["_request_id"] for row in rows]


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Log:
    return Log(tmp_path_factory.mktemp("log"))


INJECTIONS = [
    "1=1; DROP VIEW predictions",
    "1=1) UNION SELECT * FROM feedback WHERE (1=1",
    "1=1) ORDER BY (1",
    "1=1) LIMIT (1",
    "1=1) -- ",
    "1=1 /*",
    "true) AS x, (SELECT 1",
    "(SELECT count(*) FROM read_csv('/etc/passwd')) > 0",
    "EXISTS (SELECT 1 FROM read_text('/etc/passwd'))",
    "_request_id IN (SELECT content FROM read_text('/etc/hostname'))",
    "(FROM glob('/*')) IS NOT NULL",
    "getenv('HOME') IS NOT NULL",
    "current_setting('temp_directory') LIKE '/%'",
    "sleep_ms(100000) IS NULL",
    "getvariable('x') IS NULL",
    "write_log('x') IS NULL",
    "read_csv('/etc/passwd') IS NULL",
    "json_serialize_sql('SELECT 1') IS NULL",
    "COLUMNS('age') > 1",
    "row_number() OVER () = 1",
    "list_transform([1], x -> x) = [1]",
    "count(*) > 0",
    "? = 1",
    "$a = 1",
    "COPY predictions TO '/tmp/x.csv'",
    "ATTACH '/tmp/x.db'",
    "PRAGMA version",
    "SET memory_limit = '10GB'",
    "age > 40 WINDOW w AS ()",
    "nonsense > 1",
    "age > 'text'",
    "plan::INTEGER = 1",
    "NOT " * 3000 + "true",
    "age > 1 \0",
    "x" * 20_000,
    "1e9999 > 1",
]


@pytest.mark.parametrize("where", INJECTIONS, ids=range(len(INJECTIONS)))
def test_a_condition_is_one_expression_over_columns_and_nothing_else(log, where):
    with pytest.raises(InvalidRequest):
        log.asked(where)


@pytest.mark.parametrize("kind", Format)
@pytest.mark.parametrize(
    ("where", "reason"),
    [
        ("plan::INTEGER = 1", "o'pro"),
        ("age > 'text'", "'text'"),
        ("strptime(plan, '%Y') > now()", '"%Y"'),
        ("json_extract(plan, '$.a') = '1'", "Malformed JSON"),
        ("timezone('nowhere', _at) = now()", "'nowhere'"),
        ("plan LIKE 'a' ESCAPE 'xx'", "escape string"),
        ("to_years(9223372036854775807) > INTERVAL 1 DAY", "out of range"),
        ("sqrt(-age) > 1", "negative number"),
    ],
)
def test_a_mistake_that_shows_only_with_a_row_is_the_conditions_in_every_format(
    log, where, reason, kind
):
    with pytest.raises(InvalidRequest, match="The condition cannot be used") as failed:
        log.ask(where, kind=kind)
    assert reason in failed.value.message


def test_who_measures_performance_or_counts_repeats_is_told_of_a_damaged_file(log, tmp_path):
    path = tmp_path / "bad.parquet"
    path.write_bytes(log.path.read_bytes()[:-20])
    files = LogFiles(predictions=((str(path),),))
    spill = str(tmp_path / "tmp")
    order = assessment.Order(
        files=files, endpoint="churn", targets={}, wanted=Range(), temp_dir=spill, timeout_s=60.0
    )
    with pytest.raises(StoreUnavailable, match=r"cannot be read.*bad\.parquet"):
        run("assess", msgspec.json.encode(order), timeout_s=60.0)
    asked = repetition.Asked(files=files, columns=("age",), ttl_s=60.0)
    counts = repetition.Order(asked=(asked,), most_rows=10, temp_dir=spill, timeout_s=60.0)
    (found,) = msgspec.json.decode(run("repeat", msgspec.json.encode(counts), timeout_s=60.0))
    assert "bad.parquet" in found["message"]


@pytest.mark.parametrize("where", ["", "age > 1"])
@pytest.mark.parametrize("content", [None, b"", b"PAR1 nonsense PAR1", "cut"])
def test_a_damaged_file_is_the_logs_fault_whatever_the_condition(log, tmp_path, content, where):
    path = tmp_path / "bad.parquet"
    if content is not None:
        path.write_bytes(log.path.read_bytes()[:-20] if content == "cut" else content)
    for group in ((str(path),), (str(log.path), str(path))):
        with pytest.raises(StoreUnavailable, match="cannot be read"):
            log.ask(where, files=LogFiles(predictions=(group,)))


@pytest.mark.parametrize(
    "where",
    [
        "lower(plan) IN ('basic', 'x') OR age BETWEEN 1 AND 2",
        "_at > TIMESTAMPTZ '2020-01-01' AND NOT plan IS NULL",
        "_at > now() - INTERVAL 100 YEARS",
        "CASE WHEN age > 1 THEN plan ELSE 'x' END = 'basic'",
        "regexp_matches(plan, '^b') -- a remark",
        "coalesce(age, 0)::INTEGER % 2 = 1",
    ],
)
def test_what_people_ask_can_be_asked(log, where):
    assert "r-1" in log.asked(where)


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/hostname')",
        "SELECT * FROM glob('/etc/*')",
        "COPY predictions TO '/tmp/never.csv'",
        "ATTACH '/tmp/never.db'",
        "EXPORT DATABASE '/tmp/never'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '64GB'",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "RESET allowed_paths",
        "SELECT * FROM read_parquet('http://127.0.0.1:1/x.parquet')",
    ],
)
def test_a_connection_reaches_nothing_but_its_files_whatever_it_is_told(log, sql):
    with (
        connected(log.files, temp_dir=log.directory / "tmp") as connection,
        pytest.raises(Exception, match=r"disabled by configuration|locked|Extension|extension"),
    ):
        connection.execute(sql)


def test_a_query_without_end_is_interrupted(log):
    with (
        connected(log.files, temp_dir=log.directory / "tmp") as connection,
        pytest.raises(DeadlineExceeded),
        bounded(connection, timeout_s=0.3),
    ):
        connection.execute("SELECT sum(a * b) FROM range(10_000_000) t(a), range(10_000_000) u(b)")


def test_a_query_that_needs_too_much_memory_is_refused(log):
    with (
        connected(log.files, temp_dir=log.directory / "tmp", memory_mb=64) as connection,
        pytest.raises(InvalidRequest, match="memory"),
        bounded(connection, timeout_s=60),
    ):
        connection.execute("SELECT list(a) FROM range(100_000_000) t(a)").fetchone()
