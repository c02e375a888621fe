"""Whether a certificate and its key can be used, and why not."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from shipway.core.errors import CertificateUnusable
from shipway.tls.files import Pair

_OTHERS = 0o007


def require_usable(pair: Pair, *, now: datetime) -> None:
    """Returns when the pair can be shown now.

    Raises:
        CertificateUnusable: a file cannot be read or is open to everybody, the two do not belong
            together, or the certificate is not valid now. Names the file.
    """
    leaf = certificates_in(pair.cert)[0]
    if _key_in(pair.key).public_key() != leaf.public_key():
        raise CertificateUnusable(
            f"The key `{pair.key}` is not that of the certificate `{pair.cert}`.",
            next_step="Name the key that the certificate was issued for, or issue both again.",
        )
    if now < leaf.not_valid_before_utc:
        raise CertificateUnusable(
            f"The certificate `{pair.cert}` is valid only from {leaf.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on.",
            next_step="Set this machine's clock, or issue the certificate again.",
        )
    if now >= leaf.not_valid_after_utc:
        raise CertificateUnusable(
            f"The certificate `{pair.cert}` expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC.",
            next_step="Issue it again, for example with `shipway ca issue`.",
        )


def certificates_in(path: Path) -> list[x509.Certificate]:
    """The certificates of a PEM file, at least one, in their order.

    Raises:
        CertificateUnusable: it cannot be read, or holds none.
    """
    try:
        return x509.load_pem_x509_certificates(bytes_of(path))
    except ValueError as exc:
        raise CertificateUnusable(
            f"`{path}` does not hold whole certificates in PEM.",
            next_step="A PEM certificate begins with `-----BEGIN CERTIFICATE-----`.",
        ) from exc


def bytes_of(path: Path) -> bytes:
    """What a file of TLS holds.

    Raises:
        CertificateUnusable: it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as exc:
        raise CertificateUnusable(
            f"`{path}` cannot be read: {exc.strerror}.",
            next_step="Put it there for this process's user, or name another file.",
        ) from exc


def is_vouched_for(cert: Path, ca: Path) -> bool:
    """Whether one of the certificates in `ca` issued the certificate, or one of its chain.

    Raises:
        CertificateUnusable: a file cannot be read.
    """
    issuers = certificates_in(ca)
    return any(_is_issued(own, issuer) for own in certificates_in(cert) for issuer in issuers)


def _is_issued(own: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        own.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def _key_in(path: Path) -> PrivateKeyTypes:
    content = bytes_of(path)
    if path.stat().st_mode & _OTHERS:
        raise CertificateUnusable(
            f"The key `{path}` is open to every user of this machine.",
            next_step=f"Close it: `chmod 600 {path}`. If others may have read it, issue it again.",
        )
    try:
        return load_pem_private_key(content, password=None)
    except TypeError as exc:
        raise CertificateUnusable(
            f"The key `{path}` is encrypted, and nobody is there to type its password.",
            next_step=f"Decrypt it (`openssl pkey -in {path}`) into a file that only the server's user reads.",
        ) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise CertificateUnusable(
            f"`{path}` does not hold a whole private key in PEM.",
            next_step="A PEM key begins with `-----BEGIN PRIVATE KEY-----`.",
        ) from exc
