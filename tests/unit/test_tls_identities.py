"""Who a verified certificate says its owner is."""

import pytest

from shipway.tls.peers import LONGEST, identity_in

CN = ((("commonName", "jane"),),)


@pytest.mark.parametrize(
    ("certificate", "identity"),
    [
        ({"subjectAltName": (("DNS", "a.example"), ("URI", "shipway://gateway/a"))}, "shipway://gateway/a"),
        ({"subjectAltName": (("URI", "spiffe://x/y"), ("URI", "shipway://client/z"))}, "spiffe://x/y"),
        ({"subject": CN, "subjectAltName": (("DNS", "a.example"),)}, "a.example"),
        ({"subject": CN, "subjectAltName": (("email", "jane@example.com"),)}, "jane@example.com"),
        ({"subject": CN, "subjectAltName": (("IP Address", "10.0.0.1"),)}, "jane"),
        ({"subject": CN}, "jane"),
        ({"subject": ((("organizationName", "x"),),)}, ""),
        ({}, ""),
    ],
)  # fmt: skip
def test_the_identity_is_the_uri_else_a_name_else_the_common_name(certificate, identity):
    assert identity_in(certificate) == identity


@pytest.mark.parametrize(
    "certificate",
    [
        {"subject": ((("commonName", "shipway://gateway/a"),),)},
        {"subjectAltName": (("DNS", "shipway://gateway/a"),)},
        {"subjectAltName": (("email", "shipway://gateway/a"),), "subject": CN},
    ],
)
def test_only_a_uri_can_look_like_one(certificate):
    assert identity_in(certificate) == ""


@pytest.mark.parametrize(
    "name", ["", "jane\nadmin", "jane\r\nX-Role: admin", "a\x00b", "a\u202eb", "x" * (LONGEST + 1)]
)
@pytest.mark.parametrize("kind", ["URI", "DNS", "commonName"])
def test_an_identity_that_could_forge_a_line_of_a_log_is_none(kind, name):
    certificate = (
        {"subject": (((kind, name),),)} if kind == "commonName" else {"subjectAltName": ((kind, name),)}
    )  # fmt: skip
    assert identity_in(certificate) == ""
