"""Which rows come into which file of the log, and what the files are called."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date
from hashlib import sha256
from itertools import pairwise

import msgspec
import numpy as np

from shipway.core.captures import Shape
from shipway.core.partitions import Contents, Partition
from shipway.store.predictions.objects import ROOT
from shipway.store.predictions.tables import Rows


def by_day(rows: Sequence[Rows], today: date) -> Iterator[tuple[Rows, date]]:
    """The rows of each day (UTC) for themselves. Days that are to come are today; feedback's is today."""
    for one in rows:
        if one.shape is None:
            yield one, today
            continue
        days = one.table["_at"].to_numpy().astype("datetime64[D]")
        days = np.minimum(days, np.datetime64(today))
        # They are in the order of time.
        starts = [0, *(np.flatnonzero(days[1:] != days[:-1]) + 1).tolist(), len(days)]
        for start, end in pairwise(starts):
            part = one.table.slice(start, end - start)
            yield msgspec.structs.replace(one, table=part), days[start].item()


def partition_of(rows: Rows, day: date, segment: str, size_bytes: int) -> Partition:
    """The file of rows of one day, which came in a segment."""
    at = rows.table["_at"]
    shape = "" if rows.shape is None else hash_of(rows.shape)[0]
    version, model = (0, "") if rows.shape is None else (rows.shape.version, rows.shape.model)
    kind = Contents.FEEDBACK if rows.shape is None else Contents.PREDICTIONS
    # Two shapes of one version, or two days, may be in one segment.
    name = f"{segment}-{shape[:8]}.parquet"
    return Partition(
        path=f"{_directory(rows.environment, rows.endpoint, day, kind, version)}-{name}",
        contents=kind,
        environment=rows.environment,
        endpoint=rows.endpoint,
        model=model,
        version=version,
        day=day,
        rows=len(rows.table),
        size_bytes=size_bytes,
        since=at[0].as_py(),
        until=at[-1].as_py(),
        shape=shape,
    )


def hash_of(shape: Shape) -> tuple[str, str]:
    """The hash by which the catalogue knows a shape, and the JSON that it is of."""
    text = msgspec.json.encode(shape)
    return sha256(text).hexdigest()[:32], text.decode()


def _directory(environment: str, endpoint: str, day: date, kind: Contents, version: int) -> str:
    """How the names of files begin: `predictions/dev/churn/2026-05-06/v3`."""
    what = f"v{version}" if kind is Contents.PREDICTIONS else kind.value
    return f"{ROOT}/{environment}/{endpoint}/{day.isoformat()}/{what}"


def merged_partition(group: Sequence[Partition], size_bytes: int) -> Partition:
    """The file that takes the place of others."""
    first = group[0]
    paths = "\n".join(sorted(one.path for one in group))
    where = _directory(first.environment, first.endpoint, first.day, first.contents, first.version)
    return msgspec.structs.replace(
        first,
        path=f"{where}-{sha256(paths.encode()).hexdigest()[:32]}.parquet",
        rows=sum(one.rows for one in group),
        size_bytes=size_bytes,
        since=min(one.since for one in group),
        until=max(one.until for one in group),
        keep_days=max(one.keep_days for one in group),
    )
