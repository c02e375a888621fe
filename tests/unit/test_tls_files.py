"""Which files a process uses, and what is said of those that it cannot use."""

import os
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from shipway.core.errors import CertificateUnusable, ConflictError, InvalidSpec
from shipway.settings import Settings
from shipway.testing.certificates import Authority
from shipway.tls.authority import CA_LIFE, Role, issued_in
from shipway.tls.contexts import caller_context, server_context
from shipway.tls.files import Pair, TlsFiles, tls_files
from shipway.tls.pairs import is_vouched_for, require_usable

NOW = datetime.now(UTC)  # noqa: TID251 - certificates are valid by the clock


@pytest.fixture
def ca(tmp_path):
    return Authority(tmp_path / "tls")


@pytest.fixture
def server(ca):
    ca.issue("server", at=NOW)
    return ca.pair("server")


def refused(pair):
    with pytest.raises(CertificateUnusable) as caught:
        require_usable(pair, now=NOW)
    assert caught.value.next_step
    return caught.value.message


def test_a_pair_that_was_issued_can_be_used(server):
    require_usable(server, now=NOW)


def test_the_key_of_another_certificate_is_named(ca, server):
    ca.issue("other")
    said = refused(Pair(server.cert, ca.pair("other").key))
    assert "is not that of the certificate" in said
    assert str(ca.pair("other").key) in said


def test_an_expired_certificate_is_named_with_the_day(ca):
    ca.issue("old", at=NOW - timedelta(days=3), lifetime=timedelta(days=1))
    said = refused(ca.pair("old"))
    assert f"expired at {NOW - timedelta(days=2):%Y-%m-%d}" in said
    assert "old.crt" in said


def test_a_certificate_of_the_future_is_named(ca):
    ca.issue("early", at=NOW + timedelta(hours=1))
    assert "valid only from" in refused(ca.pair("early"))


@pytest.mark.parametrize("which", ["cert", "key"])
@pytest.mark.parametrize("cut", [0, 1, 60, -30])
def test_a_half_written_file_is_named(server, which, cut):
    path = getattr(server, which)
    path.write_bytes(path.read_bytes()[:cut])
    assert f"`{path}` does not hold" in refused(server)


@pytest.mark.parametrize("which", ["cert", "key"])
def test_a_missing_file_is_named(server, which):
    path = getattr(server, which)
    path.unlink()
    assert f"`{path}` cannot be read: No such file" in refused(server)


def test_a_key_that_everybody_can_read_is_refused_and_one_for_a_group_is_not(server):
    server.key.chmod(0o640)
    require_usable(server, now=NOW)
    server.key.chmod(0o644)
    assert "open to every user" in refused(server)


def test_an_encrypted_key_is_refused_and_nobody_is_asked_for_a_password(server):
    command = ["openssl", "pkey", "-aes256", "-passout", "pass:secret"]
    made = subprocess.run(command, input=server.key.read_bytes(), check=True, capture_output=True)
    server.key.write_bytes(made.stdout)
    assert "is encrypted" in refused(server)


def test_a_file_to_trust_must_hold_certificates(tmp_path, ca, server):
    for content in (b"", b"nothing", b"\xff\xfe", server.key.read_bytes()):
        (tmp_path / "trust.crt").write_bytes(content)
        with pytest.raises(CertificateUnusable, match=r"trust\.crt"):
            caller_context(TlsFiles(ca=tmp_path / "trust.crt"))
        with pytest.raises(CertificateUnusable, match=r"trust\.crt"):
            server_context(
                TlsFiles(cert=server.cert, key=server.key, client_ca=tmp_path / "trust.crt"),
                alpn=("h2",),
            )


def test_a_state_directory_without_certificates_means_no_tls(tmp_path):
    assert tls_files(Settings(state_dir=tmp_path)) == TlsFiles()


def test_a_state_directory_with_a_server_pair_means_tls(tmp_path, ca, server):
    files = tls_files(Settings(state_dir=tmp_path))
    assert files.server == server
    assert (files.ca, files.client_ca, files.client) == (ca.ca, ca.ca, None)


@pytest.mark.parametrize("gone", ["server.crt", "server.key"])
def test_half_a_pair_does_not_turn_tls_off(tmp_path, server, gone):
    (tmp_path / "tls" / gone).unlink()
    files = tls_files(Settings(state_dir=tmp_path))
    with pytest.raises(CertificateUnusable, match=gone):
        server_context(files, alpn=())


@pytest.mark.parametrize(("given", "missing"), [("cert", "KEY"), ("key", "CERT")])
def test_a_setting_without_its_other_half_is_refused(tmp_path, server, given, missing):
    with pytest.raises(CertificateUnusable, match=f"SHIPWAY_TLS_{missing}"):
        tls_files(Settings(state_dir=tmp_path, **{f"tls_{given}": server.cert}))


def test_settings_come_before_the_state_directory(tmp_path, ca, server):
    other = Authority(tmp_path / "other")
    other.issue("mine")
    mine = other.pair("mine")
    settings = Settings(state_dir=tmp_path, tls_cert=mine.cert, tls_key=mine.key, tls_ca=other.ca)
    files = tls_files(settings)
    assert (files.server, files.ca, files.client_ca) == (mine, other.ca, ca.ca)


def test_keys_are_for_their_owner_alone_from_the_first_moment_on(tmp_path):
    before = os.umask(0)
    try:
        ca = Authority(tmp_path / "own")
        ca.issue("server")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in ca.directory.glob("*.key")}
    assert modes == {"ca.key": 0o600, "server.key": 0o600}
    assert ca.directory.stat().st_mode & 0o777 == 0o700


def test_a_second_ca_does_not_replace_the_first(ca):
    content = ca.ca.read_bytes()
    with pytest.raises(ConflictError, match="already"):
        Authority(ca.directory)
    assert ca.ca.read_bytes() == content


def test_what_is_issued_is_listed_with_every_renewal(ca):
    first = ca.issue("server", lifetime=timedelta(days=1))
    second = ca.issue("server", lifetime=timedelta(days=2))
    client = ca.issue("jane", role=Role.CLIENT, hosts=(), lifetime=timedelta(hours=1))
    assert [one.serial for one in issued_in(ca.directory)] == [
        second.serial,
        first.serial,
        client.serial,
    ]
    assert client.identity == "shipway://client/jane"


def test_a_certificate_does_not_outlive_its_ca(ca):
    made = ca.issue("long", lifetime=CA_LIFE * 2)
    assert made.expires_at <= NOW + CA_LIFE + timedelta(minutes=1)


@pytest.mark.parametrize("name", ["ca", "", "../x", "a/b", "Ä", "a b", "x" * 64, "a\n"])
def test_a_name_that_is_no_file_is_refused(ca, name):
    with pytest.raises(InvalidSpec):
        ca.issue(name)
    assert issued_in(ca.directory) == []


@pytest.mark.parametrize("host", ["https://x", "a b", "x:80", "", "-a", "*", "a\nb", "*.*.x"])
def test_a_host_that_is_none_is_refused(ca, host):
    with pytest.raises(InvalidSpec):
        ca.issue("server", hosts=(host,))


def test_openssl_verifies_what_is_issued_strictly(ca, server):
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", ca.ca, server.cert],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == f"{server.cert}: OK", done.stderr


def test_only_certificates_of_the_ca_are_vouched_for(tmp_path, ca, server):
    other = Authority(tmp_path / "other")
    other.issue("server")
    assert is_vouched_for(server.cert, ca.ca)
    assert not is_vouched_for(other.pair("server").cert, ca.ca)
