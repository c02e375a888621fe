"""The specs and settings of the page about secrets are ones that Shipway takes."""

import re
from pathlib import Path

import yaml

from shipway.core.capturing import require_fields
from shipway.core.secrets import SecretRules
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType
from shipway.settings import Settings, provider_variables, secret_rules
from shipway.wire.specs import spec_of

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "keep-secrets.md").read_text()
YAML = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
SPECS = [spec_of(one) for one in YAML if "model" in one]
NAMES = ("email", "customer_id", "card", "profile")


def test_specs_of_the_page_are_valid():
    secrets, capture = SPECS
    require_fields(
        capture.capture,
        Signature(
            layout=Layout.COLUMNS,
            inputs=tuple(Field(name=name, dtype=DataType.STRING) for name in NAMES),
            outputs=(),
        ),
    )
    (patterns,) = re.findall(r"SHIPWAY_ALLOWED_SECRETS='(.*)'", PAGE)
    secret_rules(Settings(allowed_secrets=patterns), {}).require_allowed(secrets.secrets)


def test_variables_of_the_page_exist():
    named = set(re.findall(r"\bSHIPWAY_[A-Z_]*[A-Z]\b", PAGE))
    assert named <= {f"SHIPWAY_{name.upper()}" for name in Settings.model_fields}


def test_files_of_credentials_that_the_page_lists_are_read(tmp_path):
    (listed,) = re.findall(r"and so have (.*?):\n", PAGE, re.DOTALL)
    names = re.findall(r"`([A-Z_]+)`", listed)
    (tmp_path / "secret").write_text("x")
    found = provider_variables({f"{name}_FILE": str(tmp_path / "secret") for name in names})
    assert {found[name] for name in names} == {"x"}
    assert len(names) == 6


def test_what_the_page_says_of_the_servers_own_holds():
    rules = secret_rules(
        Settings(allowed_secrets="env:*,file:/*/*/*/*/*"), {"AWS_ANY_FILE": "/a/b/c/d/own"}
    )
    (own,) = re.findall(r"whatever a pattern covers: (.*?), the state", PAGE, re.DOTALL)
    for prefix in re.findall(r"`([A-Z]+_)\*`", own):
        assert not rules.covers_variable(f"{prefix}X")
    assert rules.covers_variable("MODEL_X")
    assert any(place == "/a/b/c/d/own" for place in rules.own_places)
    assert isinstance(rules, SecretRules)
