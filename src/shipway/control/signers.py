"""Whose signatures count in an environment, and whether they are right."""

from __future__ import annotations

from shipway.bundles.signing import PublicKey, public_key, signer_among
from shipway.core.policy import Checks, Signer
from shipway.core.registry import VersionRecord
from shipway.store.sql.database import Transaction


def checked_signers(checks: Checks) -> tuple[tuple[str, PublicKey], ...]:
    """The name and the key of each signer of a policy.

    Raises:
        InvalidSpec: a key cannot be read, or is of another kind.
    """
    return tuple((signer.name, _key(signer)) for signer in checks.signers)


def _key(signer: Signer) -> PublicKey:
    return public_key(signer.key, source=f"the key of signer {signer.name}")


def signed_by(tx: Transaction, checks: Checks, record: VersionRecord) -> tuple[str, ...]:
    """The signers of a policy whose signature of a version's bytes is on record and right."""
    if not checks.signers:
        return ()
    signatures = tx.signatures.of(record.digest)
    return signer_among(checked_signers(checks), signatures, record.manifest)
