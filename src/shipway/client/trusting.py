"""The calls of scans, signatures and verification."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from urllib.parse import quote

import msgspec

from shipway.client import calls
from shipway.client.exchange import Call, Flow, Work, one, reading
from shipway.core.bundles import Manifest
from shipway.core.errors import BundleCorrupt
from shipway.core.scans import Scan, Substance
from shipway.core.signatures import BundleSignature, Envelope
from shipway.core.versions import VersionQuery, parse_version


class Trust(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version's bytes: what its scan found, what serving loads, and who signed."""

    version: str
    digest: str
    substance: Substance = Substance.CODE
    scan: Scan | None = None
    signatures: tuple[BundleSignature, ...] = ()


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """That the stored bytes of a version are whole; `key_id` and `signed_at` when a key was asked about."""

    version: str
    digest: str
    files: int = 0
    size_bytes: int = 0
    key_id: str = ""
    signed_by: str = ""
    signed_at: datetime | None = None


def trust(version: str) -> Call[Trust]:
    """What is known of a version's bytes."""
    return Call(method="GET", path=_path(parse_version(version), "trust"), read=reading(Trust))


def signed(version: str, key: Path) -> Flow[Trust]:
    """Signs the bytes of a version with the private key in a PEM file, which stays here."""
    query = parse_version(version)
    found = yield from one(calls.version(query))
    manifest = _whole(found.manifest, found.digest)
    envelope, public = yield Work(lambda: _sealed(manifest, key))
    return (yield from one(_kept(VersionQuery(found.model, found.number), envelope, public)))


def verified(version: str, key: Path | None) -> Flow[Verified]:
    """Whether the stored bytes are whole, and with a public key, whether it signed them.

    Raises:
        NotFound: the key signed nothing of the version.
        BundleCorrupt: a byte was changed.
    """
    query = parse_version(version)
    call = Call(method="GET", path=_path(query, "verification"), read=reading(Verified))
    answer: Verified = yield from one(call)
    if key is None:
        return answer
    found = yield from one(calls.version(query))
    manifest = _whole(found.manifest, answer.digest)
    known = yield from one(trust(f"{found.model}:{found.number}"))
    checked: Verified = yield Work(lambda: _checked(answer, manifest, known.signatures, key))
    return checked


def _path(query: VersionQuery, part: str) -> str:
    selector = quote(calls.selector(query), safe="@")
    return f"/api/v1/models/{quote(query.model)}/versions/{selector}/{part}"


def _kept(query: VersionQuery, envelope: Envelope, public_key: str) -> Call[Trust]:
    return Call(
        method="POST",
        path=_path(query, "signatures"),
        read=reading(Trust),
        body=msgspec.json.encode({"envelope": envelope, "public_key": public_key}),
        headers={"content-type": "application/json"},
    )


def _whole(manifest: Manifest | None, digest: str) -> Manifest:
    """The manifest, once its content hashes to the digest: the server is not believed."""
    if manifest is None or manifest.content.digest != digest:
        raise BundleCorrupt(
            f"The server's manifest does not hash to `{digest}`.",
            next_step="Check the server's database against a backup.",
            digest=digest,
        )
    return manifest


def _sealed(manifest: Manifest, path: Path) -> tuple[Envelope, str]:
    from shipway.bundles.signing import pem_of, private_key
    from shipway.bundles.signing import signed as sealed

    key = private_key(path)
    return sealed(manifest, key), pem_of(key.public_key())


def _checked(
    answer: Verified, manifest: Manifest, signatures: tuple[BundleSignature, ...], path: Path
) -> Verified:
    from shipway.bundles.signing import is_signed_by, key_id_of, public_key_in
    from shipway.core.errors import NotFound

    key = public_key_in(path)
    mine = next((s for s in signatures if is_signed_by(key, s.envelope, manifest)), None)
    if mine is None:
        raise NotFound(
            f"`{answer.version}` has no signature by the key in `{path}` ({key_id_of(key)[:19]}…).",
            next_step=f"Sign it with `shipway sign {answer.version} --key KEY.pem`.",
            key_id=key_id_of(key),
        )
    return msgspec.structs.replace(
        answer, key_id=key_id_of(key), signed_by=mine.by, signed_at=mine.at
    )
