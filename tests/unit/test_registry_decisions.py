from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from shipway.core.bundles import EnvironmentLock, ModelConfig
from shipway.core.diff import Difference, Section, differences
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import AliasNotFound, VersionInUse, VersionNotFound
from shipway.core.registry import VersionSummary, check_deletable, is_inside, picked_number, usages
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.core.versions import VersionQuery, VersionRef
from shipway.testing.bundles import SIGNATURE, manifest_of

ALIASES = {"champion": 2}


@pytest.mark.parametrize(
    ("query", "number"),
    [
        (VersionQuery("churn"), 10),
        (VersionQuery("churn", number=2), 2),
        (VersionQuery("churn", alias="champion"), 2),
    ],
)
def test_picked_number_follows_number_alias_or_newest(query: VersionQuery, number: int) -> None:
    assert picked_number(query, [10, 1, 2], ALIASES) == number


@pytest.mark.parametrize(
    ("query", "numbers", "error", "words"),
    [
        (VersionQuery("churn"), [], VersionNotFound, "`churn`"),
        (VersionQuery("churn", number=3), [1, 2], VersionNotFound, "`churn:3`"),
        (VersionQuery("churn", alias="champ"), [1], AliasNotFound, "`churn@champion`"),
    ],
)
def test_missing_version_is_named(
    query: VersionQuery, numbers: list[int], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        picked_number(query, numbers, ALIASES)


def endpoint(**refs: Any) -> EndpointState:
    spec = EndpointSpec(name="live", model="churn")
    return EndpointState(spec=spec, generation=1, phase=Phase.LIVE, **refs)


def test_usages_name_every_role_of_the_model_and_no_other_model() -> None:
    state = endpoint(
        active=VersionRef("churn", 2),
        target=VersionRef("other", 1),
        previous=VersionRef("churn", 1),
    )
    found = [(usage.version, usage.role.value) for usage in usages("churn", [state])]
    assert found == [("churn:2", "primary"), ("churn:1", "previous")]


@pytest.mark.parametrize("role", ["active", "target", "previous"])
def test_version_behind_an_endpoint_in_any_role_is_not_deletable(role: str) -> None:
    version = msgspec.convert(
        {
            "model": "churn",
            "number": 1,
            "digest": "sha256:0",
            "format": "onnx",
            "served": "onnx",
            "size_bytes": 1,
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
            "created_by": "ada",
        },
        VersionSummary,
    )
    check_deletable(version, [endpoint(**{role: VersionRef("churn", 2)})])
    with pytest.raises(VersionInUse, match="endpoint `live`"):
        check_deletable(version, [endpoint(**{role: VersionRef("churn", 1)})])


@pytest.mark.parametrize("path", ["model/model.bin", "a..b/c", "...", "ü #%20"])
def test_path_below_the_directory_is_inside(path: str) -> None:
    assert is_inside(path)


@pytest.mark.parametrize(
    "path", ["../a", "a/../../b", "/etc", "a//b", "a/./b", "a\\b", "a\0", "", "a/", "..", "."]
)
def test_path_that_leaves_the_directory_or_has_empty_parts_is_not_inside(path: str) -> None:
    assert not is_inside(path)


def test_manifest_does_not_differ_from_itself() -> None:
    assert differences(manifest_of(), manifest_of()) == ()


def test_differences_name_dependencies_signature_config_metrics_and_files() -> None:
    before = manifest_of(metrics={"auc": 0.8, "old": 1.0})
    inputs = (Field(name="age", dtype=DataType.FP32), Field(name="new", dtype=DataType.BOOL))
    after = manifest_of(
        {"model/model.bin": b"other"},
        metrics={"auc": 0.9},
        environment=EnvironmentLock(python="3.12", requirements=("numpy==2.2.0", "scipy==1.0")),
        signature=msgspec.structs.replace(SIGNATURE, inputs=inputs),
        config=ModelConfig(threshold=0.4),
    )
    found = {(line.section.value, line.name): line for line in differences(before, after)}
    assert set(found) == {
        ("dependencies", "numpy"),
        ("dependencies", "python"),
        ("dependencies", "scipy"),
        ("inputs", "age"),
        ("inputs", "city"),
        ("inputs", "new"),
        ("config", "threshold"),
        ("metrics", "auc"),
        ("metrics", "old"),
        ("files", "examples.json"),
        ("files", "model/model.bin"),
    }
    assert found["inputs", "age"] == Difference(
        section=Section.INPUTS, name="age", before={"dtype": "FP64"}, after={"dtype": "FP32"}
    )
    assert (found["inputs", "new"].before, found["inputs", "city"].after) == (None, None)
    assert (found["dependencies", "numpy"].before, found["dependencies", "numpy"].after) == (
        "2.1.0",
        "2.2.0",
    )
    assert (found["metrics", "old"].before, found["metrics", "old"].after) == (1.0, None)
