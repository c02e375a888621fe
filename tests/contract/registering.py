"""A process that registers one bundle, and may be told to die or to run out of disk on the way."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shipway.control.registry import Registry
from shipway.core.errors import ShipwayError
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.audit import AuditRows
from shipway.store.sql.database import Database

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def main(order: dict[str, Any]) -> None:
    database = Database.open(order["database_url"])
    artifacts = ArtifactStore(order["artifacts_url"], environment=order["environment"])
    arrange_death(order["die_at"])
    if order["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        record, created = Registry(database, artifacts).register(
            "churn", Path(order["bundle"]), actor="child", now=NOW
        )
        print(json.dumps({"number": record.number, "created": created}))
    except ShipwayError as exc:
        print(json.dumps({"code": exc.code, "message": exc.message, "next_step": exc.next_step}))
    finally:
        database.close()


def arrange_death(moment: str) -> None:
    """Makes the process kill itself, as `kill -9` would, right after the named step."""
    steps: dict[str, tuple[type, str]] = {
        "first file stored": (ArtifactStore, "_put"),
        "bytes stored": (ArtifactStore, "put_bundle"),
        "row written": (AuditRows, "append"),
    }
    if not moment:
        return
    owner, name = steps[moment]
    step = getattr(owner, name)

    def last(*args: Any, **kwargs: Any) -> None:
        step(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, last)


main(json.loads(sys.argv[1]))
