"""The use cases of trust: what a scan found, who signed, and whether the bytes are still the same."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import msgspec

from shipway.bundles.signing import is_signed_by, key_id_of, public_key, signer_among
from shipway.control.registry import resolved
from shipway.control.signers import checked_signers
from shipway.core.audit import Change
from shipway.core.bundles import Manifest
from shipway.core.errors import InvalidRequest, PolicyUnmet
from shipway.core.registry import VersionRecord
from shipway.core.scans import Scan, Substance, substance_of
from shipway.core.signatures import BundleSignature, Envelope
from shipway.core.trust import needs_signature
from shipway.core.versions import VersionQuery
from shipway.engines.bundle import verified_manifest
from shipway.store.sql.database import Database, Transaction

MOST_SIGNATURES = 100
"""Of one bundle; each is checked whenever a policy asks."""


class TrustView(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a version's bytes.

    `substance` is what serving it loads. `scan` is None when it was registered before there were scans.
    """

    version: str
    digest: str
    substance: Substance
    scan: Scan | None
    signatures: tuple[BundleSignature, ...]


class SignatureRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A signature of a version's bytes, and the public key (PEM) that it is to be checked with."""

    envelope: Envelope
    public_key: str


class Verification(msgspec.Struct, frozen=True, kw_only=True):
    """That all stored bytes of a version are those of its digest."""

    version: str
    digest: str
    files: int
    size_bytes: int


class Trust:
    """Scans and signatures over a database. Thread-safe; methods block, may raise StoreUnavailable.

    `materialise` gives a directory with the bundle of a digest.
    """

    def __init__(self, database: Database, materialise: Callable[[str], Path]) -> None:
        self._database = database
        self._materialise = materialise

    def of(self, query: VersionQuery) -> TrustView:
        """What is known of a version's bytes.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        """
        with self._database.reading() as tx:
            return _view(tx, resolved(tx, query))

    def sign(
        self, query: VersionQuery, given: SignatureRequest, *, actor: str, now: datetime
    ) -> TrustView:
        """Keeps a signature, in place of an earlier one by the same key.

        Keeping it trusts nobody: whose signature counts is what a policy's signers say.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
            InvalidSpec: the public key cannot be read.
            InvalidRequest: it is not of these bytes, or not by this key.
        """
        key = public_key(given.public_key, source="public_key")
        with self._database.transaction() as tx:
            record = resolved(tx, query)
            if not is_signed_by(key, given.envelope, record.manifest):
                raise InvalidRequest(
                    f"The signature is not of the bytes of `{record.ref}`, or not by that key.",
                    next_step=f"Sign it again: `shipway sign {record.ref} --key KEY.pem`.",
                )
            _check_room(tx, record, key_id_of(key))
            signature = BundleSignature(
                digest=record.digest,
                key_id=key_id_of(key),
                envelope=given.envelope,
                by=actor,
                at=now,
            )
            tx.signatures.put(signature)
            tx.audit.append(_change(record, signature))
            return _view(tx, record)

    def verified(self, query: VersionQuery) -> Verification:
        """That the stored bytes of a version are whole; reads all of them.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
            BundleCorrupt: a file (named) is missing or was changed.
        """
        with self._database.reading() as tx:
            record = resolved(tx, query)
        manifest = verified_manifest(self._materialise(record.digest), record.digest)
        files = manifest.content.files
        return Verification(
            version=str(record.ref),
            digest=record.digest,
            files=len(files),
            size_bytes=sum(file.size_bytes for file in files),
        )

    def materialised(self, digest: str, environment: str) -> Path:
        """A directory with a bundle that may be loaded in the environment.

        Where the environment's policy wants a signature, every byte is checked against it.

        Raises:
            PolicyUnmet: none of the policy's signers signed these bytes.
            BundleCorrupt: a byte is not what the digest says, or the bundle is not stored.
        """
        directory = self._materialise(digest)
        with self._database.reading() as tx:
            declared = tx.policies.get(environment)
            if declared is None or not needs_signature(declared.policy.checks):
                return directory
            signatures = tx.signatures.of(digest)
        manifest = verified_manifest(directory, digest)
        signers = checked_signers(declared.policy.checks)
        if not signer_among(signers, signatures, manifest):
            raise _unsigned(manifest, environment, [name for name, _ in signers])
        return directory


def _view(tx: Transaction, record: VersionRecord) -> TrustView:
    return TrustView(
        version=str(record.ref),
        digest=record.digest,
        substance=substance_of(record.manifest.content),
        scan=tx.scans.get(record.digest),
        signatures=tx.signatures.of(record.digest),
    )


def _check_room(tx: Transaction, record: VersionRecord, key_id: str) -> None:
    others = {one.key_id for one in tx.signatures.of(record.digest)} - {key_id}
    if len(others) >= MOST_SIGNATURES:
        raise InvalidRequest(
            f"`{record.ref}` has {len(others)} signatures already, as many as one may have.",
            next_step="Sign with a key that has signed it before.",
        )


def _change(record: VersionRecord, signature: BundleSignature) -> Change:
    return Change(
        at=signature.at,
        actor=signature.by,
        action="version.sign",
        subject=str(record.ref),
        details={"digest": record.digest, "key_id": signature.key_id},
    )


def _unsigned(manifest: Manifest, environment: str, signers: list[str]) -> PolicyUnmet:
    names = ", ".join(signers) or "nobody"
    return PolicyUnmet(
        f"Environment `{environment}` loads only what {names} signed, and bundle `{manifest.digest}`"
        " has no such signature.",
        next_step="Sign it with `shipway sign MODEL:VERSION --key KEY.pem`, and deploy it again.",
        digest=manifest.digest,
        environment=environment,
    )
