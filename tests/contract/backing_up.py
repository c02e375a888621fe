"""A process that backs up or restores, and may be told to die or to run out of disk on the way."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shipway.core.errors import ShipwayError
from shipway.store.backups import restoring, writing
from shipway.store.backups.places import _FilePlace, _ObjectPlace, place_of
from shipway.store.backups.restoring import Target, checked_backup, restore_backup
from shipway.store.backups.snapshot import existing_engine
from shipway.store.backups.writing import Source, write_backup
from shipway.store.objects.artifacts import ArtifactStore

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)


def main(order: dict[str, Any]) -> None:
    arrange_death(order["die_at"])
    artifacts = ArtifactStore(order["artifacts_url"], environment=order["environment"])
    place = place_of(order["backup"], now=NOW, environment=order["environment"])
    state_dir = Path(order["state_dir"])
    if order["file_limit"]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_limit"], order["file_limit"]))
    print("ready", flush=True)
    sys.stdin.readline()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        if order["restore"]:
            manifest = checked_backup(place, on_progress=nobody)
            target = Target(order["database_url"], artifacts, state_dir)
            restore_backup(place, target, manifest, on_progress=nobody)
        else:
            source = Source(existing_engine(order["database_url"]), artifacts, state_dir)
            write_backup(source, place, with_keys=True, now=NOW, on_progress=nobody)
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({"grown_kb": after - before}))
    except ShipwayError as exc:
        print(json.dumps({"code": exc.code, "message": exc.message, "next_step": exc.next_step}))


def nobody(step: str, done: int, total: int) -> None:
    del step, done, total


def arrange_death(moment: str) -> None:
    """Makes the process kill itself, as `kill -9` would, right before the named step."""
    steps: dict[str, list[tuple[Any, str]]] = {
        "": [],
        "rows written": [(writing._Contents, "_bundle")],
        "bundles written": [(writing._Contents, "_state_files")],
        "nothing read back": [(_FilePlace, "read"), (writing, "sealed_manifest")],
        "no name taken": [(_FilePlace, "_take_name"), (_ObjectPlace, "read")],
        "rows restored": [(restoring._Restore, "_restore_bundle")],
        "bundles restored": [(restoring._Restore, "_restore_file")],
        "all restored": [(restoring, "first_loose_link")],
    }

    def die(*args: Any, **kwargs: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for owner, name in steps[moment]:
        setattr(owner, name, die)


main(json.loads(sys.argv[1]))
