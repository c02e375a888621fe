"""What a model's environment lock holds."""

import sys
from importlib.metadata import version

import pytest

from shipway.bundles.environment import is_confirmed, lock_environment, overriding
from shipway.core.environment import pins_of
from shipway.core.errors import EnvironmentFailed, InvalidSpec


@pytest.fixture
def without_index(monkeypatch, tmp_path):
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))


def test_lock_holds_the_installed_versions_of_all_that_a_pipeline_needs():
    lock = lock_environment({"sklearn", "json", "my_own_module"})

    pins = pins_of(lock)
    for name in ("scikit-learn", "scipy", "joblib", "threadpoolctl", "numpy", "msgspec"):
        assert pins[name] == version(name)
    assert "shipway" not in pins
    assert lock.python == f"{sys.version_info.major}.{sys.version_info.minor}"
    assert list(lock.requirements) == sorted(lock.requirements)
    assert is_confirmed(lock)


def test_lock_has_no_packages_that_only_the_index_lists():
    pins = pins_of(lock_environment({"torch"}))

    assert pins["torch"] == version("torch").partition("+")[0]
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]


def test_lock_with_a_declared_package_still_has_none_that_only_the_index_lists():
    pins = pins_of(lock_environment({"torch"}, ["colorama==0.4.6"]))

    assert pins["colorama"] == "0.4.6"
    assert pins["torch"] == version("torch").partition("+")[0]
    assert pins["jinja2"] == version("jinja2")
    assert not [name for name in pins if name.startswith(("nvidia", "cuda", "triton"))]


def test_lock_without_an_index_is_what_is_installed_and_unconfirmed(without_index):
    lock = lock_environment({"sklearn"})

    assert not is_confirmed(lock)
    assert pins_of(lock)["scikit-learn"] == version("scikit-learn")


def test_declared_lines_that_are_installed_change_nothing():
    declared = [f"scikit-learn=={version('scikit-learn')}", "# a comment", "numpy>=1", ""]

    assert lock_environment((), declared).digest == lock_environment({"sklearn"}).digest


def test_declared_lines_win_over_what_is_installed_and_the_rest_follows():
    pins = pins_of(lock_environment({"sklearn"}, ["scikit-learn==1.3.2"]))

    assert pins["scikit-learn"] == "1.3.2"
    assert pins["numpy"].startswith("1.")
    assert pins["msgspec"] == version("msgspec")


def test_declared_lines_that_cannot_be_resolved_fail_in_uvs_words():
    with pytest.raises(EnvironmentFailed, match=r"no version of scikit-learn==99\.0"):
        lock_environment((), ["scikit-learn==99.0"])


@pytest.mark.parametrize("line", ["scikit learn", "a @ file:///home/me/a.whl"])
def test_a_declared_line_that_no_lock_can_hold_is_refused(line):
    with pytest.raises(InvalidSpec):
        lock_environment((), [line])


def test_a_persons_line_replaces_the_artifacts_line_of_the_same_package():
    own = ["mlflow==3.1", "scikit_learn==1.9.1"]

    assert overriding(own, ["scikit-learn==1.5.2"]) == ("mlflow==3.1", "scikit-learn==1.5.2")
