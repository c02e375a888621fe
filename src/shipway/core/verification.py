"""Whether the audit chain and its signed heads hold, and where they break first. One pass, little memory."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TypeAlias

import msgspec

from shipway.core.audit import GENESIS, AuditEvent, BrokenLink, fault_of
from shipway.core.heads import Cut, Head, IsSigned, key_name, message_of

Link: TypeAlias = AuditEvent | Head | Cut


class ChainVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check of the chain found.

    `first` to `last` are the events that were read (both 0 when there were none). Up to
    `signed_through` a signature proves them; later ones hold together, and no head proves them yet.
    """

    holds: bool
    broken: BrokenLink | None = None
    first: int = 0
    last: int = 0
    heads: int = 0
    signed_through: int = 0


class ChainPage(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive events, oldest first, and the signed heads up to the last of them.

    `cut` is on the first page, when an older part of the chain was archived.
    """

    events: tuple[AuditEvent, ...]
    heads: tuple[Head, ...]
    cut: Cut | None = None


def position(link: Link) -> tuple[int, int, int]:
    """Where a link stands: a cut before the first event, a head after the event that it signs."""
    if isinstance(link, Cut):
        return (0, 0, 0)
    if isinstance(link, Head):
        return (link.sequence, 2, link.number)
    return (link.sequence, 1, 0)


class ChainCheck:
    """A check under way: `see` each link in the order of `position`, then ask for the `verdict`.

    `trusted` are public keys (hex). A key that a trusted one vouches for is trusted too.
    """

    def __init__(self, *, trusted: Collection[str], is_signed: IsSigned) -> None:
        self._signers = _Signers(trusted)
        self._is_signed = is_signed
        self._first = 0
        self._last, self._hash = 0, GENESIS
        self._heads = 0
        self._next_head = 1
        self._broken: BrokenLink | None = None

    def see(self, link: Link) -> None:
        """Takes the next link. Once the chain has broken, heads are only asked whom they vouch for."""
        if isinstance(link, AuditEvent):
            if self._broken is None:
                self._see_event(link)
        elif not self._is_signed(link.public_key, message_of(link), link.signature):
            if self._broken is None:
                kind = "cut" if isinstance(link, Cut) else f"head {link.number}"
                reason = f"the {kind} of event {link.sequence} has a forged signature"
                self._break(link.sequence, reason)
        elif self._broken is not None:
            self._signers.heard(link)
        elif isinstance(link, Cut):
            self._see_cut(link)
        else:
            self._see_head(link)

    def verdict(self) -> ChainVerdict:
        """What was found, once all links have been seen."""
        found = [self._broken, self._signers.first_fault()]
        broken = min((one for one in found if one), key=lambda one: one.sequence, default=None)
        proven = self._signers.proven()
        if broken is None and proven is None:
            reason = "no head that a known key signed is left to prove the chain"
            broken = BrokenLink(sequence=max(1, self._first), reason=reason)
        return ChainVerdict(
            holds=broken is None,
            broken=broken,
            first=self._first,
            last=self._last if self._first else 0,
            heads=self._heads,
            signed_through=proven or 0,
        )

    def _break(self, sequence: int, reason: str) -> None:
        self._broken = BrokenLink(sequence=sequence, reason=reason)

    def _see_event(self, event: AuditEvent) -> None:
        sequence = self._last + 1
        reason = fault_of(event, sequence=sequence, previous_hash=self._hash)
        if reason is not None:
            return self._break(sequence, reason)
        self._first = self._first or sequence
        self._last, self._hash = sequence, event.hash
        return None

    def _see_cut(self, cut: Cut) -> None:
        if self._last or self._heads:
            return self._break(cut.sequence, f"the cut of event {cut.sequence} is out of place")
        self._last, self._hash, self._next_head = cut.sequence, cut.hash, cut.heads_from
        self._signers.met(cut, proven=cut.sequence)
        return None

    def _see_head(self, head: Head) -> None:
        if head.number != self._next_head:
            word = "is missing" if head.number > self._next_head else "is out of place"
            number = min(head.number, self._next_head)
            return self._break(head.sequence, f"signed head {number} {word}")
        self._heads += 1
        self._next_head += 1
        if head.sequence < self._last:
            return self._break(head.sequence, f"head {head.number} is out of place")
        if head.sequence > self._last:
            return self._signers.accuse(head, _missing(self._last + 1, head))
        if head.hash != self._hash:
            return self._signers.accuse(head, None)
        return self._signers.met(head, proven=head.sequence)


def _missing(sequence: int, head: Head) -> BrokenLink:
    reason = f"event {sequence} is missing: at {_time(head)} the chain had {head.sequence} events"
    return BrokenLink(sequence=sequence, reason=f"{reason}, says head {head.number}")


def _time(head: Head) -> str:
    return f"{head.at:%Y-%m-%d %H:%M:%S} UTC"


class _Signer(msgspec.Struct):
    """What one key signed: its first, its first that does not fit, and how far it proves the chain."""

    first: Head | Cut
    vouches_for: set[str] = msgspec.field(default_factory=set)
    fault: BrokenLink | None = None
    proven: int | None = None


class _Signers:
    """The keys that were met. Which of them to believe is known at the end: a later one may vouch."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._trusted = frozenset(trusted)
        self._met: dict[str, _Signer] = {}

    def heard(self, signed: Head | Cut) -> None:
        """A signature of which nobody can say whether it agrees."""
        self._signer(signed)

    def met(self, signed: Head | Cut, *, proven: int) -> None:
        """A signature that agrees with the chain."""
        self._signer(signed).proven = proven

    def accuse(self, head: Head, fault: BrokenLink | None) -> None:
        """A head that does not agree: with that fault, or because its event has another hash."""
        signer = self._signer(head)
        if signer.fault is None:
            signer.fault = fault or _rewritten(head, after=signer.proven)

    def first_fault(self) -> BrokenLink | None:
        """The earliest fault that a believed key shows, or of a key that is not believed."""
        believed = self._believed()
        faults = (
            signer.fault if key in believed else _unknown(signer.first)
            for key, signer in self._met.items()
        )
        return min((one for one in faults if one), key=lambda one: one.sequence, default=None)

    def proven(self) -> int | None:
        """The last event that a believed key proves; None when there is no such key."""
        believed = self._believed()
        found = [s.proven for key, s in self._met.items() if key in believed]
        return max((one for one in found if one is not None), default=None)

    def _signer(self, signed: Head | Cut) -> _Signer:
        signer = self._met.setdefault(signed.public_key, _Signer(first=signed))
        if isinstance(signed, Head) and signed.vouches_for:
            signer.vouches_for.add(signed.vouches_for)
        return signer

    def _believed(self) -> frozenset[str]:
        believed = self._trusted
        while True:
            new = {
                key
                for one in believed & self._met.keys()
                for key in self._met[one].vouches_for - believed
            }
            if not new:
                return believed
            believed |= new


def _rewritten(head: Head, *, after: int | None) -> BrokenLink:
    reason = f"event {head.sequence} is not the one that was signed at {_time(head)}"
    since = (after or 0) + 1
    if since < head.sequence:
        reason += f": one of the events {since} to {head.sequence} was rewritten, and all after it"
    return BrokenLink(sequence=head.sequence, reason=reason)


def _unknown(signed: Head | Cut) -> BrokenLink:
    kind = f"head {signed.number}" if isinstance(signed, Head) else "cut"
    reason = (
        f"the {kind} of event {signed.sequence} is signed with key {key_name(signed.public_key)},"
        " which is not known"
    )
    return BrokenLink(sequence=signed.sequence, reason=reason)


def verdict_of(
    links: Iterable[Link], *, trusted: Collection[str], is_signed: IsSigned
) -> ChainVerdict:
    """The verdict over links in the order of `position`."""
    check = ChainCheck(trusted=trusted, is_signed=is_signed)
    for link in links:
        check.see(link)
    return check.verdict()


def first_lost_head(
    witness: Iterable[Head], kept: Iterator[Head], *, heads_from: int
) -> BrokenLink | None:
    """The first head of the witness that is not kept as it was; both by number.

    Those below `heads_from` went with an archive.
    """
    here = next(kept, None)
    for head in witness:
        while here is not None and here.number < head.number:
            here = next(kept, None)
        if head.number >= heads_from and here != head:
            reason = (
                f"head {head.number} of event {head.sequence}, signed at {_time(head)}, was removed"
                " or changed"
            )
            return BrokenLink(sequence=head.sequence, reason=reason)
    return None
