"""What was made of reports, as objects of the artifact store: pages and pictures."""

from __future__ import annotations

from contextlib import suppress

import obstore
from obstore.store import ObjectStore

from shipway.store.objects.faults import translated_faults


class ReportObjects:
    """Small objects by their paths. Thread-safe; all methods block, and raise StoreUnavailable."""

    def __init__(self, store: ObjectStore, location: str) -> None:
        self._store = store
        self._location = location

    def put(self, path: str, content: bytes) -> None:
        """Stores an object, over what was there."""
        with translated_faults(self._location):
            obstore.put(self._store, path, content)

    def read(self, path: str) -> bytes | None:
        """The bytes of an object; None when there is none."""
        with translated_faults(self._location):
            try:
                return bytes(obstore.get(self._store, path).bytes())
            except FileNotFoundError:
                return None

    def delete(self, path: str) -> None:
        """Removes an object; nothing when there is none."""
        with suppress(FileNotFoundError), translated_faults(self._location):
            obstore.delete(self._store, path)
