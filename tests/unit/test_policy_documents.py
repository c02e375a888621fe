"""Policies as people write them: what is read, and how what is wrong is said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from shipway.cli.specs import policies_in
from shipway.core.errors import InvalidSpec
from shipway.core.policy import AllowedStrategy, EnvironmentPolicy, Weekday
from shipway.wire.policies import policy_of

WHOLE = """
name: production
from_environment: staging
checks:
  evaluations:
    - metric: roc_auc
      at_least: 0.85
      data: holdout.parquet
      max_age_days: 30
    - {metric: recall, at_least: 0.7, slice: {column: region, value: north}}
  latency: {p95_ms: 20, p99_ms: 50}
  parity: true
  compatible_signature: true
  not_worse_than_live: true
approvals: {required: 2, by: [ben, eve, kim], exclude_author: true}
freeze:
  - {start: 2026-12-20T00:00:00Z, end: 2027-01-04T00:00:00Z, reason: holidays}
  - {days: [fri], from: 16:00, to: 24:00}
  - {days: [sat, sun]}
allowed_strategies: [canary, blue_green, none]
"""


def test_whole_policy_is_read_and_written_back_the_same() -> None:
    policy = policy_of(yaml.safe_load(WHOLE))
    assert policy.freeze[1].days == (Weekday.FRI,)
    assert (policy.freeze[1].since, policy.freeze[1].until) == ("16:00", "24:00")
    assert policy.allowed_strategies[-1] is AllowedStrategy.NONE
    assert policy_of(msgspec.json.decode(msgspec.json.encode(policy))) == policy


def test_name_alone_is_a_policy() -> None:
    assert policy_of({"name": "staging"}) == EnvironmentPolicy(name="staging")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"aprovals": {}}, "unknown key `aprovals`. Did you mean `approvals`?"),
        ({"approvals": {"require": 2}}, "`approvals.require`. Did you mean `approvals.required`?"),
        (
            {"checks": {"evaluations": [{"metric": "f1", "at_leats": 1}]}},
            "`checks.evaluations[0].at_leats`. Did you mean `checks.evaluations[0].at_least`?",
        ),
        ({"freeze": [{"days": ["mon"], "form": "08:00"}]}, "`freeze[0].form`. Did you mean"),
        ({"freeze": [{"days": ["mon"], "since": "08:00"}]}, "unknown key `freeze[0].since`"),
        ({"checks": {"evaluations": [{"metric": "f1"}]}}, "bounds nothing"),
        (
            {"checks": {"evaluations": [{"metric": "f1", "at_least": 1, "at_most": 0}]}},
            "wants `f1` at least 1 and at most 0",
        ),
        ({"checks": {"latency": {"p95_ms": 0}}}, "`$.checks.latency.p95_ms`"),
        ({"approvals": {"required": 3, "by": ["a", "b", "b"]}}, "only 2 may give one"),
        ({"approvals": {"required": -1}}, "`$.approvals.required`"),
        ({"freeze": [{}]}, "`freeze[0]` does not say when"),
        ({"freeze": [{"start": "2026-01-01T00:00:00Z"}]}, "does not say when"),
        (
            {"freeze": [{"start": "2026-01-01T00:00:00Z", "end": "2026-01-01T00:00:00Z"}]},
            "ends before it begins",
        ),
        (
            {
                "freeze": [
                    {
                        "days": ["mon"],
                        "start": "2026-01-01T00:00:00Z",
                        "end": "2026-01-02T00:00:00Z",
                    }
                ]
            },
            "does not say when",
        ),
        (
            {"freeze": [{"start": "2026-01-01T00:00:00", "end": "2026-01-02T00:00:00Z"}]},
            "timezone",
        ),
        ({"freeze": [{"days": ["mon"], "from": "8:00"}]}, "`$.freeze[0].from`"),
        ({"freeze": [{"days": ["mon"], "from": "24:00"}]}, "begins at 24:00"),
        ({"freeze": [{"days": ["someday"]}]}, "someday"),
        ({"allowed_strategies": ["canery"]}, "canery"),
        ({"from_environment": "production"}, "before one to `production`"),
        ({"from_environment": "Pro duction"}, "not a valid environment name"),
        ({"name": "latest"}, "always means the newest"),
        ({"name": "A"}, "not a valid environment name"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        policy_of({"name": "production", **change})
    assert message in caught.value.message
    assert caught.value.next_step


@pytest.mark.parametrize("data", [None, [], "production", 3])
def test_what_is_no_mapping_is_refused(data: Any) -> None:
    with pytest.raises(InvalidSpec, match="not a mapping"):
        policy_of(data)


@pytest.mark.parametrize("page", ["reference/environment-policy", "howto/promote-and-approve"])
def test_policies_in_the_documentation_are_valid(page: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / f"{page}.md").read_text()
    examples = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert [policy_of(yaml.safe_load(example)).name for example in examples] == ["production"]


def test_file_may_hold_several_policies(tmp_path: Path) -> None:
    file = tmp_path / "policies.yaml"
    file.write_text("name: dev\n---\nname: staging\n")
    assert [policy.name for policy in policies_in(file)] == ["dev", "staging"]
    file.write_text("name: dev\n---\nname: staging\nfreez: []\n")
    with pytest.raises(InvalidSpec, match=r"Environment 2 of .* unknown key `freez`"):
        policies_in(file)
