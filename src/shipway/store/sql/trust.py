"""Scans and signatures as rows, found by the bundle that they are of."""

from __future__ import annotations

from datetime import datetime

import msgspec
import sqlalchemy as sa

from shipway.core.scans import Scan, ScanReport
from shipway.core.signatures import BundleSignature, Envelope
from shipway.store.sql.tables import scans, signatures


class ScanRows:
    """The scans of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, report: ScanReport, *, at: datetime) -> None:
        """Keeps a report in place of an earlier one of the same bytes."""
        mine = scans.c.digest == report.digest
        self._connection.execute(sa.delete(scans).where(mine))
        row = {"digest": report.digest, "at": at, "report": msgspec.json.encode(report).decode()}
        self._connection.execute(sa.insert(scans).values(row))

    def get(self, digest: str) -> Scan | None:
        """What was found in these bytes; None when they were never scanned."""
        row = self._connection.execute(sa.select(scans).where(scans.c.digest == digest)).first()
        if row is None:
            return None
        report = msgspec.json.decode(row.report, type=ScanReport)
        return Scan(**msgspec.structs.asdict(report), at=row.at)


class SignatureRows:
    """The signatures of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def put(self, signature: BundleSignature) -> None:
        """Keeps a signature in place of an earlier one of the same bytes by the same key."""
        mine = (signatures.c.digest == signature.digest) & (signatures.c.key_id == signature.key_id)
        self._connection.execute(sa.delete(signatures).where(mine))
        row = {
            "digest": signature.digest,
            "key_id": signature.key_id,
            "envelope": msgspec.json.encode(signature.envelope).decode(),
            "by": signature.by,
            "at": signature.at,
        }
        self._connection.execute(sa.insert(signatures).values(row))

    def of(self, digest: str) -> tuple[BundleSignature, ...]:
        """Who signed these bytes, oldest first."""
        mine = sa.select(signatures).where(signatures.c.digest == digest)
        rows = self._connection.execute(mine.order_by(signatures.c.at, signatures.c.key_id))
        return tuple(
            BundleSignature(
                digest=row.digest,
                key_id=row.key_id,
                envelope=msgspec.json.decode(row.envelope, type=Envelope),
                by=row.by,
                at=row.at,
            )
            for row in rows
        )
