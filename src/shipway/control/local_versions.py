"""The versions that endpoints want, with their bundles brought to this machine."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

from shipway.core.backoff import pause_s
from shipway.core.errors import ShipwayError, StoreUnavailable
from shipway.core.registry import VersionRecord
from shipway.core.versions import VersionQuery, VersionRef

_log = logging.getLogger(__name__)


class LocalVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version as this machine has it. `error` says why its bundle cannot be had; empty otherwise."""

    record: VersionRecord | None
    bundle_dir: Path | None
    error: str = ""


class LocalVersions:
    """Fetches wanted versions in the background and forgets those that nobody wants any more.

    A store that is away is asked again, with growing pauses; any other failure is kept as the
    version's error until the version is no longer wanted. Used from one event loop.
    """

    def __init__(
        self,
        *,
        version: Callable[[VersionQuery], VersionRecord],
        materialise: Callable[[str], Path],
        on_change: Callable[[], None],
    ) -> None:
        self._version = version
        self._materialise = materialise
        self._on_change = on_change
        self._known: dict[VersionRef, LocalVersion] = {}
        self._fetching: dict[VersionRef, asyncio.Task[None]] = {}

    @property
    def known(self) -> Mapping[VersionRef, LocalVersion]:
        """The wanted versions that were fetched, or found to be impossible."""
        return self._known

    def want(self, versions: Iterable[VersionRef]) -> None:
        """Makes exactly these the wanted versions; does not block."""
        wanted = set(versions)
        for gone in self._fetching.keys() - wanted:
            self._fetching.pop(gone).cancel()
        self._known = {ref: local for ref, local in self._known.items() if ref in wanted}
        for ref in wanted - self._known.keys() - self._fetching.keys():
            self._fetching[ref] = asyncio.create_task(self._fetch(ref), name=f"fetch {ref}")

    async def close(self) -> None:
        """Stops fetching."""
        tasks = list(self._fetching.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _fetch(self, ref: VersionRef) -> None:
        failures = 0
        while True:
            try:
                local = await asyncio.to_thread(self._fetched, ref)
            except Exception as exc:  # noqa: BLE001 - the loop's outermost frame
                # Ended here, the version would count as being fetched for ever.
                failures += 1
                _log.warning("%s cannot be fetched now: %s", ref, exc)
                await asyncio.sleep(pause_s(failures))
            else:
                break
        self._fetching.pop(ref, None)
        self._known = {**self._known, ref: local}
        self._on_change()

    def _fetched(self, ref: VersionRef) -> LocalVersion:
        record = None
        try:
            record = self._version(VersionQuery(ref.model, ref.number))
            return LocalVersion(record=record, bundle_dir=self._materialise(record.digest))
        except StoreUnavailable:
            raise
        except ShipwayError as exc:
            return LocalVersion(record=record, bundle_dir=None, error=exc.message)
