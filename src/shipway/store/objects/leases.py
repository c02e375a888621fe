"""Leases: while somebody has one, no bundle is swept away, whatever the versions of this moment name."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from uuid import uuid4

import obstore
from obstore.store import ObjectStore

from shipway.store.objects.faults import translated_faults

_ROOT = "leases"


class Leases:
    """The leases of an artifact store: objects of its own, so that every process sees them.

    Who copies bundles takes a lease before reading which there are. A sweep asks after it has read
    that no version names a bundle: then it either sees the lease, or deletes what no copy will want.
    """

    def __init__(self, store: ObjectStore, location: str) -> None:
        self._store = store
        self._location = location

    @contextmanager
    def taken(self) -> Iterator[Callable[[], None]]:
        """Keeps every bundle until the block ends; call what it gives now and then to renew it."""
        key = f"{_ROOT}/{uuid4().hex}"

        def renew() -> None:
            with translated_faults(self._location):
                obstore.put(self._store, key, b"leased")

        renew()
        try:
            yield renew
        finally:
            with suppress(FileNotFoundError), translated_faults(self._location):
                obstore.delete(self._store, key)

    def any_since(self, moment: datetime) -> bool:
        """Whether one was taken or renewed after that moment; older ones were left by the dead."""
        with translated_faults(self._location):
            pages = obstore.list(self._store, prefix=_ROOT)
            return any(item["last_modified"] >= moment for page in pages for item in page)
