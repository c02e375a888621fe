"""What a certificate's file says, whatever is wrong with it."""

from __future__ import annotations

from pathlib import Path

from shipway.core.health import CertificateFacts


def certificate_facts(path: Path, key: Path | None) -> CertificateFacts:
    """The facts of the first certificate of a PEM file, and whether the key is its own; None for no key."""
    # Imported where there is a certificate: it takes a while.
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
        matches = None
        if key is not None:
            own = load_pem_private_key(key.read_bytes(), password=None)
            matches = own.public_key() == leaf.public_key()
    except (OSError, ValueError, TypeError) as exc:
        return CertificateFacts(path=str(path), fault=str(exc).rstrip("."))
    return CertificateFacts(
        path=str(path),
        begins_at=leaf.not_valid_before_utc,
        expires_at=leaf.not_valid_after_utc,
        key_matches=matches,
    )
