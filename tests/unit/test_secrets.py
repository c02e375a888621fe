"""Secrets are references: what they may refer to, what a spec may say, and what no text may show."""

from __future__ import annotations

import logging
import os
import traceback

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.endpoints import EndpointSpec
from shipway.core.errors import InvalidSpec, SecretUnavailable
from shipway.core.masking import MASK, masked
from shipway.core.secrets import OWN, OWN_PLACES, SecretRef, SecretRules, require_references
from shipway.engines.logs import log_to_stderr
from shipway.gateway.valkey_link import _place_of
from shipway.settings import (
    Settings,
    content_of,
    gateway_variables,
    provider_variables,
    read_settings,
    secret_rules,
    variables_with,
)
from shipway.store.objects.locations import opened
from shipway.wire.specs import spec_of

EVERYTHING = SecretRules(allowed=("env:*", "file:/*", "file:/*/*", "file:/*/*/*", "file:/*/*/*/*"))
CANARY = "canary-4f8a"


def env(name):
    return SecretRef(env=name)


def file(path):
    return SecretRef(file=path)


@pytest.mark.parametrize(
    ("pattern", "reference", "is_allowed"),
    [
        ("env:HF_TOKEN", env("HF_TOKEN"), True),
        ("env:HF_*", env("HF_TOKEN"), True),
        ("env:HF_*", env("XHF_TOKEN"), False),
        ("env:*", file("/run/secrets/db"), False),
        ("file:/run/secrets/*", file("/run/secrets/db"), True),
        ("file:/run/secrets/*", file("/run/secrets/team/db"), False),
        ("file:/run/secrets/*/*", file("/run/secrets/team/db"), True),
        ("file:/secrets/*", file("/run/secrets/db"), False),
        ("file:/run/secrets/db", file("/run/secrets/db"), True),
    ],
)
def test_patterns_cover_names_and_parts_of_paths(pattern, reference, is_allowed):
    assert bool(SecretRules(allowed=(pattern,)).objection(reference)) is not is_allowed


def test_nothing_may_be_used_where_nobody_allowed_it():
    assert SecretRules().objection(env("MODEL_TOKEN"))
    assert SecretRules().objection(file("/run/secrets/db"))


@given(st.sampled_from(OWN), st.from_regex(r"[A-Z0-9_]{0,20}", fullmatch=True))
def test_variables_of_the_server_are_never_for_models(prefix, rest):
    assert EVERYTHING.objection(env(prefix + rest))


@given(st.sampled_from(OWN_PLACES), st.lists(st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)))
def test_places_of_the_server_are_never_for_models(place, parts):
    assert EVERYTHING.is_own(file("/".join([place, *parts])))
    assert EVERYTHING.objection(file("/".join([place, *parts])))


def test_files_that_the_servers_own_variables_name_are_not_for_models(tmp_path):
    url, token, other = (tmp_path / name for name in ("url", "token", "other"))
    for path in (url, token, other):
        path.write_text("x")
    (tmp_path / "link").symlink_to(url)
    rules = secret_rules(
        Settings(
            state_dir=tmp_path / "state",
            database_url_file=tmp_path / "link",
            allowed_secrets=f"file:{tmp_path}/*, file:{tmp_path}/*/*",
        ),
        {"AWS_WEB_IDENTITY_TOKEN_FILE": str(token)},
    )
    own = [url, tmp_path / "link", token, tmp_path / "state" / "shipway.db"]
    assert all(rules.objection(file(str(path))) for path in own)
    assert not rules.objection(file(str(other)))


def test_a_spec_with_references_is_read_and_comes_back_the_same():
    secrets = {"HF_TOKEN": {"env": "MODEL_HF"}, "DB": {"file": "/run/secrets/db"}}
    spec = spec_of({"name": "e", "model": "m:1", "secrets": secrets})
    assert msgspec.to_builtins(spec)["secrets"] == secrets
    assert msgspec.json.decode(msgspec.json.encode(spec), type=EndpointSpec) == spec


@pytest.mark.parametrize(
    "secrets",
    [
        {"TOKEN": CANARY},
        {"TOKEN": {"value": CANARY}},
        {"TOKEN": {CANARY: 1}},
        {"TOKEN": {"env": CANARY}},
        {"TOKEN": {"env": "hf_" + CANARY.replace("-", "_")}},
        {"TOKEN": {"file": CANARY}},
        {"TOKEN": {"env": "A", "file": "/" + CANARY}},
        {"TOKEN": [CANARY]},
        {CANARY: {"env": "TOKEN"}},
        {"TOKEN": {"file": f"/run/secrets/../{CANARY}"}},
        {"TOKEN": {"file": f"//run/{CANARY}"}},
        {"TOKEN": {"file": f"/run/./{CANARY}"}},
    ],
)
def test_a_value_in_place_of_a_reference_is_refused_and_not_repeated(secrets):
    with pytest.raises(InvalidSpec) as caught:
        spec_of({"name": "e", "model": "m:1", "secrets": secrets})
    said = "".join(traceback.format_exception(caught.value))
    assert CANARY not in said.replace(repr(secrets), "")
    assert CANARY.replace("-", "_") not in said
    assert "{env: VARIABLE}" in caught.value.next_step


@pytest.mark.parametrize("name", ["LD_PRELOAD", "PYTHONPATH", "PATH", "SHIPWAY_STATE_DIR", "a", ""])
def test_no_secret_changes_how_the_models_process_starts(name):
    with pytest.raises(InvalidSpec):
        require_references({name: env("MODEL_X")}, source="The spec")


def test_a_model_in_the_gateways_process_has_no_secrets():
    with pytest.raises(InvalidSpec, match="runs in the gateways"):
        spec_of(
            {"name": "e", "model": "m:1", "placement": "inline", "secrets": {"A": {"env": "B"}}}
        )


PASSWORDS = st.text(
    st.characters(codec="utf-8", exclude_characters="'\"` ", exclude_categories=["Z", "C"]),
    min_size=4,
    max_size=20,
).filter(lambda text: not set(text) <= set("*:/@db.x"))


@given(PASSWORDS, st.sampled_from(["postgresql", "valkeys", "redis", "s3", "postgresql+psycopg"]))
def test_no_password_of_a_url_is_left(password, scheme):
    said = masked(f"it failed: {scheme}://ada:{password}@db.x/y is away")
    assert said == f"it failed: {scheme}://{MASK}@db.x/y is away"


@pytest.mark.parametrize("text", ["a" * 10**6, "http://" * 10**5, "token" * 10**5, "://@" * 10**5])
def test_masking_takes_a_time_that_grows_with_the_text_alone(text):
    """A model's exception may quote a megabyte: quadratic time would be minutes."""
    assert len(masked(text)) <= len(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("host=db password=pw user=a", "host=db password=*** user=a"),
        ("https://x/y?sig=abc&v=1", "https://x/y?sig=***&v=1"),
        ("AccountName=a;AccountKey=abc==;", "AccountName=a;AccountKey=***;"),
        ("s3://bucket/prefix", "s3://bucket/prefix"),
        ("churn@champion is live", "churn@champion is live"),
        ("Rollout of m:2, signature=Signature(a)", "Rollout of m:2, signature=Signature(a)"),
    ],
)
def test_what_is_no_secret_stays_readable(text, shown):
    assert masked(text) == shown


def test_the_log_shows_no_password_of_a_foreign_exception(capsys):
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = []
    try:
        log_to_stderr()
        try:
            raise ValueError(f"cannot parse postgresql://u:{CANARY}@h/x")
        except ValueError:
            logging.getLogger("any").exception("failed with %s", f"valkey://:{CANARY}@h")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    said = capsys.readouterr().err
    assert "cannot parse" in said
    assert CANARY not in said


@pytest.mark.parametrize(
    ("url", "place"),
    [
        ("valkey://h:1/0", "h:1"),
        (f"valkey://:{CANARY}@h:1/0", "h:1"),
        (f"valkey://:{CANARY}/x@h:1/0", "h:1"),
        (f"unix://u:{CANARY}@/run/valkey", "/run/valkey"),
    ],
)
def test_the_log_names_the_caches_place_alone(url, place):
    assert _place_of(url) == place


def test_settings_show_no_url():
    url = f"postgresql://u:{CANARY}@h/x"
    settings = Settings(database_url=url, artifacts_url=url, cache_url=f"valkey://:{CANARY}@h")
    assert CANARY not in f"{settings!r} {settings}"
    assert settings.as_variables()["SHIPWAY_DATABASE_URL"] == url


@pytest.mark.parametrize("name", ["SHIPWAY_CACHE_URL", "SHIPWAY_CACHE_URL_FILE"])
def test_a_wrong_url_is_refused_without_repeating_it(name, monkeypatch, tmp_path):
    wrong = f"walkey://:{CANARY}@h"
    (tmp_path / "url").write_text(wrong)
    monkeypatch.setenv(name, str(tmp_path / "url") if name.endswith("FILE") else wrong)
    with pytest.raises(InvalidSpec, match="SHIPWAY_CACHE_URL") as caught:
        read_settings()
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_a_setting_comes_from_its_file_and_the_next_process_reads_it_again(tmp_path, monkeypatch):
    path = tmp_path / "url"
    path.write_text("postgresql://one\n")
    monkeypatch.setenv("SHIPWAY_DATABASE_URL_FILE", str(path))
    settings = read_settings()
    assert settings.database_url == "postgresql://one"
    variables = variables_with(settings)
    assert "SHIPWAY_DATABASE_URL" not in variables
    path.write_text("postgresql://two")
    monkeypatch.setenv("SHIPWAY_DATABASE_URL_FILE", variables["SHIPWAY_DATABASE_URL_FILE"])
    assert read_settings().database_url == "postgresql://two"


def test_a_setting_that_is_given_twice_or_not_there_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SHIPWAY_DATABASE_URL_FILE", str(tmp_path / "none"))
    with pytest.raises(SecretUnavailable, match="`SHIPWAY_DATABASE_URL_FILE` is"):
        read_settings()
    (tmp_path / "none").write_text("x")
    monkeypatch.setenv("SHIPWAY_DATABASE_URL", "sqlite://")
    with pytest.raises(InvalidSpec, match="Both `SHIPWAY_DATABASE_URL`"):
        read_settings()


def test_credentials_that_were_read_from_files_reach_azures_client(monkeypatch):
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    store, _ = opened("az://bundles/x", environment={"AZURE_STORAGE_ACCOUNT_KEY": "a2V5"})
    assert store.config["account_key"] == "a2V5"


def test_credentials_of_the_artifact_store_come_from_files(tmp_path):
    (tmp_path / "key").write_text("k\n")
    found = provider_variables(
        {"AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "key"), "AWS_REGION": "r", "HOME": "/"}
    )
    assert found["AWS_SECRET_ACCESS_KEY"] == "k"
    assert "HOME" not in found


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "empty"), (b"\n", "empty"), (b"a\0b", "zero byte"), (b"\xff", "UTF-8"),
     (b"x" * 70_000, "more than")],
)  # fmt: skip
def test_a_file_that_holds_no_secret_is_refused_in_words(content, words, tmp_path):
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        content_of(str(tmp_path / "secret"))


def test_a_pipe_is_no_secret_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="plain file"):
        content_of(str(tmp_path / "pipe"))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=50))
def test_one_newline_at_the_end_is_not_the_secrets(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "one"
    path.write_bytes(f"{text}\n".encode())
    expected = text.removesuffix("\r")
    if expected:
        assert content_of(str(path)) == expected


def test_gateways_are_given_neither_credentials_nor_models_secrets(monkeypatch):
    for name in ("MODEL_TOKEN", "SHIPWAY_DATABASE_URL_FILE", "AWS_SECRET_ACCESS_KEY_FILE", "OTHER"):
        monkeypatch.setenv(name, "x")
    assert "PATH" in gateway_variables(Settings(allowed_secrets="env:*"))
    variables = gateway_variables(
        Settings(allowed_secrets="env:MODEL_*", cache_url="valkey://h", database_url_file="x")
    )
    assert variables["SHIPWAY_CACHE_URL"] == "valkey://h"
    assert "OTHER" in variables
    assert not {"MODEL_TOKEN", "SHIPWAY_DATABASE_URL_FILE", "AWS_SECRET_ACCESS_KEY_FILE"} & {
        *variables
    }
