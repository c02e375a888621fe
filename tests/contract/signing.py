"""A process that appends audit events and signs them, and may kill itself on the way."""

from __future__ import annotations

import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shipway.control.pruning import Pruning
from shipway.control.seals import Seals
from shipway.core.audit import Change
from shipway.store.archives import Archives
from shipway.store.keys import AuditKeys
from shipway.store.sql.database import Database
from shipway.store.witness import Witness

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
STEPS: dict[str, tuple[type, str]] = {
    "head made": (Seals, "signed_head"),
    "head in the database": (Witness, "last_number"),
    "head in the file": (Witness, "add"),
    "archive written": (Archives, "write"),
    "archive sealed": (Archives, "seal"),
    "events removed": (Pruning, "_remove"),
    "key replaced": (AuditKeys, "adopt"),
}


def die_after(moment: str, *, times: int) -> None:
    owner, name = STEPS[moment]
    step, left = getattr(owner, name), [times]

    def last(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, last)


def main(order: dict[str, Any]) -> None:
    database = Database.open(order["database_url"])
    seals = Seals(database, Path(order["state_dir"]))
    seals.sign(now=NOW)
    print("ready", flush=True)
    sys.stdin.readline()
    if order.get("die_after"):
        die_after(order["die_after"], times=order.get("times", 1))
    for number in range(order["events"]):
        change = Change(
            at=NOW,
            actor=order["actor"],
            action="test.append",
            subject="churn",
            details={"n": number},
        )
        with database.transaction() as tx:
            tx.audit.append(change)
        if number % order.get("sign_every", 1) == 0:
            seals.sign(now=NOW)
    if order.get("then") == "rotate":
        seals.rotate(actor=order["actor"], now=NOW)
    if order.get("then") == "prune":
        Pruning(seals).prune(before=NOW.replace(year=2030), actor=order["actor"], now=NOW)
    database.close()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
