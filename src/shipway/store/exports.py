"""Checking an export or an archive of the audit chain, away from the server that wrote it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import msgspec

from shipway.core.audit import BrokenLink
from shipway.core.errors import InvalidRequest
from shipway.core.heads import Cut, message_of
from shipway.core.verification import ChainVerdict, verdict_of
from shipway.store.archives import manifest_of
from shipway.store.files import sha256_of
from shipway.store.keys import is_signed
from shipway.wire.audit import links_in


def verdict_of_file(path: Path, *, trusted: Collection[str]) -> ChainVerdict:
    """Whether the chain in a file holds; with the manifest beside it, whether it is that archive.

    Raises:
        InvalidRequest: the file cannot be read, or a line is none of ours.
    """
    try:
        with path.open("rb") as lines:
            links = links_in(lines, source=f"`{path}`")
            verdict = verdict_of(links, trusted=trusted, is_signed=is_signed)
        broken = verdict.broken or _manifest_fault(path, verdict, trusted)
    except OSError as exc:
        raise InvalidRequest(
            f"`{path}` cannot be read: {exc.strerror or exc}.",
            next_step="Give a file that `shipway audit export` wrote.",
        ) from exc
    return msgspec.structs.replace(verdict, holds=broken is None, broken=broken)


def _manifest_fault(
    path: Path, verdict: ChainVerdict, trusted: Collection[str]
) -> BrokenLink | None:
    manifest = manifest_of(path)
    if not manifest.exists():
        return None
    try:
        cut = msgspec.json.decode(manifest.read_bytes(), type=Cut)
    except msgspec.MsgspecError:
        return BrokenLink(sequence=verdict.first, reason="the manifest beside it cannot be read")
    is_ours = cut.public_key in trusted and is_signed(
        cut.public_key, message_of(cut), cut.signature
    )
    if not is_ours:
        reason = "the manifest beside it is not signed with a key that you trust"
        return BrokenLink(sequence=verdict.first, reason=reason)
    if cut.sha256 != sha256_of(path):
        return BrokenLink(sequence=cut.first, reason="it is not the file that its manifest seals")
    return None
