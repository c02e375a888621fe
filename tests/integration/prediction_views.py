"""The two views of the prediction log, over small tables, as the store would open them."""

import duckdb

_PREDICTIONS = """
CREATE TABLE kept (_request_id VARCHAR, _row INTEGER, _at TIMESTAMPTZ, _version INTEGER, _role VARCHAR,
  _latency_ms FLOAT, _principal VARCHAR, _segment VARCHAR, _key VARCHAR{fields});
CREATE VIEW predictions AS SELECT * FROM kept;
CREATE TABLE said_raw (_request_id VARCHAR, _row INTEGER, _key VARCHAR, _at TIMESTAMPTZ, _id VARCHAR,
  label VARCHAR, score DOUBLE, outcomes MAP(VARCHAR, DOUBLE), _principal VARCHAR,
  _arrived TIMESTAMPTZ);
CREATE VIEW feedback AS SELECT * FROM said_raw;
"""


def opened(fields, predictions, feedback=()):
    """A connection with the views. `fields` are SQL types by column; `at_us` stands for `_at`, `arrived_us` for `_arrived`.

    Keys of rows are column names; what is left out is NULL, or row 0, version 1 and `primary`.
    """
    connection = duckdb.connect(config={"threads": 2, "memory_limit": "256MB"})
    columns = "".join(f', "{name}" {kind}' for name, kind in fields.items())
    connection.execute(_PREDICTIONS.format(fields=columns))
    names = ["_request_id", "_row", "_at", "_version", "_role", "_segment", "_key", *fields]
    rest = {"_row": 0, "_version": 1, "_role": "primary"}
    _insert(connection, "kept", names, [rest | row for row in predictions])
    names = [
        "_request_id",
        "_row",
        "_key",
        "_at",
        "_id",
        "label",
        "score",
        "outcomes",
        "_principal",
        "_arrived",
    ]
    _insert(connection, "said_raw", names, [{"outcomes": {}} | row for row in feedback])
    return connection


_TIMES = {"_at": "at_us", "_arrived": "arrived_us"}


def _insert(connection, table, names, rows):
    if not rows:
        return
    listed = ", ".join(f'"{name}"' for name in names)
    values = ", ".join("make_timestamptz(?)" if name in _TIMES else "?" for name in names)
    connection.execute("BEGIN")
    connection.executemany(
        f"INSERT INTO {table} ({listed}) VALUES ({values})",
        [[row.get(_TIMES.get(name, name)) for name in names] for row in rows],
    )
    connection.execute("COMMIT")
