"""A certificate authority of one's own, in a directory: ECDSA on P-256, keys that only their user reads."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from secrets import token_hex

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from shipway.core.errors import CertificateUnusable, ConflictError, InvalidSpec
from shipway.tls.files import Pair
from shipway.tls.pairs import bytes_of, certificates_in, require_usable

CA_LIFE = timedelta(days=3650)
DEFAULT_DAYS = 90
CLOCKS_DIFFER = timedelta(minutes=5)
"""Certificates are valid from a little before now: other machines' clocks may be behind."""

ISSUED = "issued"
"""Below the CA's directory: every certificate that it has issued, by serial number."""

_NAME = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?")


class Role(StrEnum):
    """What a certificate's owner is to Shipway."""

    GATEWAY = "gateway"
    CONTROL = "control"
    CLIENT = "client"


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """A certificate of the CA."""

    name: str
    role: str
    identity: str
    hosts: tuple[str, ...]
    expires_at: datetime
    serial: str
    cert: str
    key: str | None = None


def create(directory: Path, *, now: datetime) -> Path:
    """Makes a CA (`ca.crt`, `ca.key`), and gives the path of its certificate.

    Raises:
        ConflictError: there is one already.
        CertificateUnusable: the directory cannot be written.
    """
    own = Pair(directory / "ca.crt", directory / "ca.key")
    if own.cert.exists() or own.key.exists():
        raise ConflictError(
            f"There is a CA in `{directory}` already; what it issued would be worth nothing.",
            next_step="Issue with it, or move it away first.",
        )
    key = ec.generate_private_key(ec.SECP256R1())
    name = _common_name(f"Shipway CA {token_hex(4)}")
    certificate = (
        _draft(key.public_key(), name, now=now, until=now + CA_LIFE)
        .issuer_name(name)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_pair(own, key, certificate)
    return own.cert


def issue(  # noqa: PLR0913 - what a certificate says
    directory: Path,
    name: str,
    *,
    role: Role,
    hosts: Sequence[str],
    lifetime: timedelta,
    pair: Pair,
    now: datetime,
) -> Issued:
    """Issues a certificate for a new key into the pair's files, in place of what was there.

    Raises:
        CertificateUnusable: there is no CA in the directory, or it cannot be used any more.
        InvalidSpec: a name or a host cannot be in a certificate.
    """
    own = Pair(directory / "ca.crt", directory / "ca.key")
    if not own.cert.exists():
        raise CertificateUnusable(
            f"There is no CA in `{directory}`.", next_step="Make one with `shipway ca init`."
        )
    require_usable(own, now=now)
    issuer = certificates_in(own.cert)[0]
    signer = load_pem_private_key(bytes_of(own.key), password=None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    until = min(now + lifetime, issuer.not_valid_after_utc)
    certificate = (
        _draft(key.public_key(), _common_name(_valid_name(name)), now=now, until=until)
        .issuer_name(issuer.subject)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(_purposes(role), critical=False)
        .add_extension(_names(name, role, hosts), critical=False)
        .add_extension(_issuer_key(issuer), critical=False)
        .sign(signer, hashes.SHA256())
    )
    _write_pair(pair, key, certificate)
    kept = directory / ISSUED / f"{certificate.serial_number:x}.crt"
    _write(kept, certificate.public_bytes(Encoding.PEM), mode=0o644)
    return _described(certificate, pair.cert, pair.key)


def issued_in(directory: Path) -> list[Issued]:
    """Every certificate that the CA of a directory has issued, the latest to expire first."""
    found = [_described(certificates_in(p)[0], p) for p in (directory / ISSUED).glob("*.crt")]
    return sorted(found, key=lambda one: (one.expires_at, one.serial), reverse=True)


def _draft(
    key: ec.EllipticCurvePublicKey, subject: x509.Name, *, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(until)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _common_name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _purposes(role: Role) -> x509.ExtendedKeyUsage:
    """Who only calls cannot pass for a server; gateways call control, so servers may call."""
    client = ExtendedKeyUsageOID.CLIENT_AUTH
    if role is Role.CLIENT:
        return x509.ExtendedKeyUsage([client])
    return x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, client])


def _names(name: str, role: Role, hosts: Sequence[str]) -> x509.SubjectAlternativeName:
    identity = x509.UniformResourceIdentifier(f"shipway://{role}/{name}")
    return x509.SubjectAlternativeName([identity, *map(_host_of, hosts)])


def _host_of(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host.strip("[]")))
    except ValueError:
        if not _HOST.fullmatch(host):
            raise InvalidSpec(
                f"`{host}` is neither a host name nor an address.",
                next_step="Give it without scheme and port, for example `--host models.example.com`.",
            ) from None
        return x509.DNSName(host)


def _issuer_key(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    own = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(own)


def _valid_name(name: str) -> str:
    if name == "ca" or not _NAME.fullmatch(name):
        raise InvalidSpec(
            f"A certificate cannot be called `{name}`.",
            next_step="Use up to 63 small letters, digits, `.`, `_` and `-`; `ca` is the CA's own.",
        )
    return name


def _described(certificate: x509.Certificate, cert: Path, key: Path | None = None) -> Issued:
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    identity = names.get_values_for_type(x509.UniformResourceIdentifier)[0]
    role, _, name = identity.removeprefix("shipway://").partition("/")
    dns, ips = names.get_values_for_type(x509.DNSName), names.get_values_for_type(x509.IPAddress)
    return Issued(
        name=name,
        role=role,
        identity=identity,
        hosts=(*dns, *map(str, ips)),
        expires_at=certificate.not_valid_after_utc,
        serial=f"{certificate.serial_number:x}",
        cert=str(cert),
        key=str(key) if key else None,
    )


def _write_pair(pair: Pair, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> None:
    """The key comes first: a server that looks in between keeps what it has."""
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(pair.key, secret, mode=0o600)
    _write(pair.cert, certificate.public_bytes(Encoding.PEM), mode=0o644)


def _write(path: Path, content: bytes, *, mode: int) -> None:
    """Writes a file whole or not at all, never readable by more than it will be."""
    draft = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as stream:
            os.fchmod(descriptor, mode)
            stream.write(content)
        draft.replace(path)
    except OSError as exc:
        raise CertificateUnusable(
            f"`{path}` cannot be written: {exc.strerror}.",
            next_step="Name another directory with `--dir` or `--out`.",
        ) from exc
