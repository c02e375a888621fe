"""Which models stay in memory: a pure choice under a budget.

Memory comes back only when a process has ended. So what is to start waits until what was evicted is
gone, and the sum of what runs stays within the budget at every moment.

A model with requests inside is not evicted. When all are busy and another one has waited for
`TURN_S`, the one that has been in longest gives way: it gets no new requests, finishes those inside
its replicas, and its callers wait in the gateways for its next turn. So of two hot models that do
not fit together each has its turns, none starves, and none is thrown out before it has served.

Times are seconds of a steady clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from shipway.core.versions import VersionRef

TURN_S = 5.0
"""A busy model serves at least so long before it gives way, to one that has waited so long."""

BASE_MB = 64.0
"""What a replica needs without its model: Python, NumPy, ONNX Runtime."""

MODEL_FACTOR = 2.0
"""A model that was never measured is taken to need so many times its files."""
MARGIN = 1.1
"""A replica that starts is reckoned with so much more than the last one needed: processes share
pages, and the share of each grows when others end."""

Key = tuple[str, VersionRef]
"""An endpoint's name and one version behind it."""


class Resident(msgspec.Struct, frozen=True, kw_only=True):
    """A version whose replicas run.

    `size_mb` is what they need, those excepted that were told to stop. `used_s` is when it was last
    asked, `since_s` since when it is ready. `is_busy`: requests are inside it or held for it.
    `is_leaving`: it was chosen to be evicted at the last look. `stays`: it must not be evicted:
    pinned, about to be activated, or still starting.
    """

    key: Key
    size_mb: float
    used_s: float
    since_s: float
    is_busy: bool = False
    is_leaving: bool = False
    stays: bool = False


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A version that wants to start replicas which need `size_mb`, since `since_s`.

    `may_evict`: it was asked for; one that is only preloaded takes what is free.
    """

    key: Key
    size_mb: float
    since_s: float
    may_evict: bool = True


class Room(msgspec.Struct, frozen=True, kw_only=True):
    """The budget, what of it is never given out, and what those still hold that were told to stop."""

    budget_mb: float
    reserve_mb: float = 0.0
    ending_mb: float = 0.0


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """Who goes, who starts now, and who waits and why: refused ones cannot start at all.

    A reason is empty where the room is on its way.
    """

    evicted: frozenset[Key] = frozenset()
    started: frozenset[Key] = frozenset()
    waiting: Mapping[Key, str] = {}
    refused: Mapping[Key, str] = {}


def estimated_mb(bundle_bytes: int, *, peak_mb: float | None) -> float:
    """What a replica will need: the most that one of that version did, else a guess by its files."""
    if peak_mb is not None:
        return peak_mb * MARGIN
    return BASE_MB + MODEL_FACTOR * bundle_bytes / 2**20


def choose(
    residents: Sequence[Resident], candidates: Iterable[Candidate], *, room: Room, now_s: float
) -> Choice:
    """What to evict and to start. Who was asked for first gets room first."""
    desk = _Desk(residents, room, now_s)
    desk.keep_within()
    for one in sorted(candidates, key=lambda c: (not c.may_evict, c.since_s, c.key)):
        desk.serve(one)
    return Choice(
        evicted=frozenset(desk.evicted),
        started=frozenset(desk.started),
        waiting=desk.waiting,
        refused=desk.refused,
    )


class _Desk:
    """The choice in the making. `free_mb` is there now, `coming_mb` once all that goes is gone."""

    def __init__(self, residents: Sequence[Resident], room: Room, now_s: float) -> None:
        self._residents = residents
        self._budget_mb = room.budget_mb
        self._now_s = now_s
        self._usable_mb = room.budget_mb - room.reserve_mb
        self.coming_mb = self._usable_mb - sum(one.size_mb for one in residents)
        self.free_mb = self.coming_mb - room.ending_mb
        self.evicted: set[Key] = set()
        self.started: set[Key] = set()
        self.waiting: dict[Key, str] = {}
        self.refused: dict[Key, str] = {}

    def keep_within(self) -> None:
        """Evicts while more is used than allowed: models grow, and guesses were wrong."""
        for one in self._idle(None):
            if self.coming_mb >= 0:
                return
            self._evict(one)

    def serve(self, one: Candidate) -> None:
        """Starts it, makes room for it, or says why it waits."""
        if one.size_mb <= min(self.free_mb, self.coming_mb):
            self.started.add(one.key)
            self.free_mb -= one.size_mb
            self.coming_mb -= one.size_mb
            return
        fixed_mb = sum(r.size_mb for r in self._residents if r.stays or r.key == one.key)
        if one.size_mb > self._usable_mb:
            self.refused[one.key] = (
                f"The memory budget of {self._budget_mb:.0f} MB cannot hold {one.key[1]}, which"
                f" needs about {one.size_mb:.0f} MB."
            )
            return
        victims = self._victims(one) if one.may_evict else None
        if victims is None:
            is_held = one.size_mb > self._usable_mb - fixed_mb
            filled_by = "models that stay" if is_held else "models with requests inside"
            self.waiting[one.key] = (
                f"{one.key[1]} waits for memory: {filled_by} fill the budget of"
                f" {self._budget_mb:.0f} MB."
            )
            return
        for victim in victims:
            self._evict(victim)
        self.coming_mb -= one.size_mb
        self.waiting[one.key] = ""

    def _victims(self, one: Candidate) -> list[Resident] | None:
        """The fewest that have to go, in order; None when even all that may go are too few."""
        missing_mb = one.size_mb - self.coming_mb
        victims: list[Resident] = []
        for resident in (*self._idle(one), *self._in_turn(one)):
            if missing_mb <= 0:
                break
            victims.append(resident)
            missing_mb -= resident.size_mb
        return victims if missing_mb <= 0 else None

    def _idle(self, one: Candidate | None) -> list[Resident]:
        """Those without requests: chosen before, then least recently used."""
        idle = [r for r in self._may_go(one) if not r.is_busy]
        return sorted(idle, key=lambda r: (not r.is_leaving, r.used_s, r.key))

    def _in_turn(self, one: Candidate) -> list[Resident]:
        """Busy ones that had their turn, once the candidate has waited for its own."""
        if self._now_s - one.since_s < TURN_S:
            return []
        served = [r for r in self._may_go(one) if r.is_busy and self._now_s - r.since_s >= TURN_S]
        return sorted(served, key=lambda r: (not r.is_leaving, r.since_s, r.key))

    def _may_go(self, one: Candidate | None) -> Iterable[Resident]:
        own = None if one is None else one.key
        return (
            r for r in self._residents if not r.stays and r.key != own and r.key not in self.evicted
        )

    def _evict(self, resident: Resident) -> None:
        self.evicted.add(resident.key)
        self.coming_mb += resident.size_mb
