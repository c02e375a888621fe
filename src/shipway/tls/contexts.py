"""How TLS is spoken: 1.2 or later, with the ciphers and checks that Python's `ssl` holds safe."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from shipway.core.errors import Bug, CertificateUnusable
from shipway.tls.files import Pair, TlsFiles

HANDSHAKE_S = 10.0
"""A peer that has not finished its handshake after so long is dropped."""

GOODBYE_S = 3.0
"""A peer that does not answer the end of TLS is not waited for longer."""

_END = b"-----END CERTIFICATE-----"


def server_context(files: TlsFiles, *, alpn: Sequence[str]) -> ssl.SSLContext:
    """What a server speaks TLS with. Callers may show a certificate of `client_ca`.

    Raises:
        CertificateUnusable: a file cannot be used; says which, and why.
    """
    if files.server is None:
        raise Bug("A server without a certificate cannot speak TLS.")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    _show(context, files.server)
    if files.client_ca is not None:
        _trust(context, files.client_ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        # A resumed session proves nothing anew: its certificate may have expired since.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
    return context


def caller_context(files: TlsFiles, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """What a caller speaks TLS with: the server's certificate must be vouched for, and have its name.

    Raises:
        CertificateUnusable: a file cannot be used; says which, and why.
    """
    context = ssl.create_default_context()
    if files.ca is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        _trust(context, files.ca)
    return _prepared(context, files, alpn)


def pinned_context(cert: Path, files: TlsFiles, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
    """What a caller of this machine's own server speaks TLS with: exactly that certificate is trusted.

    Whoever may read the server's files knows it by its certificate, whatever names are in it.

    Raises:
        CertificateUnusable: a file cannot be used; says which, and why.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _trust(context, cert, only_first=True)
    return _prepared(context, files, alpn)


def _prepared(context: ssl.SSLContext, files: TlsFiles, alpn: Sequence[str]) -> ssl.SSLContext:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if files.client is not None:
        _show(context, files.client)
    return context


def _show(context: ssl.SSLContext, pair: Pair) -> None:
    # cryptography takes a while to import, and processes without TLS do without.
    from shipway.tls.pairs import require_usable

    require_usable(pair, now=datetime.now(UTC))  # noqa: TID251 - certificates are valid by the clock
    try:
        context.load_cert_chain(pair.cert, pair.key, password=_nobody)
    except (OSError, ValueError) as exc:
        raise CertificateUnusable(
            f"The certificate `{pair.cert}` and the key `{pair.key}` cannot be loaded: {exc}.",
            next_step="Issue both again.",
        ) from exc


def _trust(context: ssl.SSLContext, path: Path, *, only_first: bool = False) -> None:
    try:
        content = path.read_bytes()
        if only_first:
            content = content.partition(_END)[0] + _END
        context.load_verify_locations(cadata=content.decode("ascii"))
    except OSError as exc:  # ssl.SSLError is one
        raise CertificateUnusable(
            f"`{path}` cannot be used as certificates to trust: {exc.strerror or exc}.",
            next_step="It must be a readable file of certificates in PEM.",
        ) from exc
    except ValueError as exc:
        raise CertificateUnusable(
            f"`{path}` does not hold certificates in PEM.",
            next_step="A PEM certificate begins with `-----BEGIN CERTIFICATE-----`.",
        ) from exc


def _nobody() -> str:
    """The password of an encrypted key: OpenSSL would ask at the terminal."""
    return ""
