"""Which addresses may be called when somebody else names them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.addresses import OutboundPolicy

POLICY = OutboundPolicy()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1",
        "169.254.169.254", "168.63.129.16", "100.100.100.200", "192.0.0.192", "224.0.0.1",
        "255.255.255.255", "198.18.0.1", "192.0.2.1", "::", "::1", "::ffff:127.0.0.1",
        "::ffff:a9fe:a9fe", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::",
        "2001:0:0:0:0:0:80ff:fffe", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "ff02::1",
        "2001:db8::1", "localhost", "", "0x7f.1", "2130706433", "0177.0.0.1",
    ],
)  # fmt: skip
def test_what_is_not_of_the_public_internet_is_refused(address):
    assert POLICY.refusal_of(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_may_be_called(address):
    assert POLICY.refusal_of(address) == ""


def test_a_private_network_may_be_allowed_and_metadata_may_not():
    policy = OutboundPolicy(networks=("10.0.0.0/8", "169.254.0.0/16", "fd00::/8", "::/0"))
    assert policy.refusal_of("10.1.2.3") == policy.refusal_of("::ffff:10.1.2.3") == ""
    assert policy.refusal_of("fd12::1") == ""
    for address in ("192.168.1.1", "169.254.169.254", "::ffff:169.254.169.254", "fd00:ec2::254"):
        assert policy.refusal_of(address)


def test_only_https_may_be_called_unless_plain_http_is_allowed():
    plain = OutboundPolicy(plain=True)
    assert POLICY.scheme_refusal_of("https") == plain.scheme_refusal_of("http") == ""
    assert POLICY.scheme_refusal_of("http")
    for scheme in ("file", "ftp", "gopher", "unix", ""):
        assert plain.scheme_refusal_of(scheme)


@given(st.ip_addresses(v=4))
def test_an_address_is_judged_the_same_in_each_of_its_forms(address):
    for form in (f"::ffff:{address}", f"64:ff9b::{address}"):
        assert POLICY.refusal_of(form) == POLICY.refusal_of(str(address))
