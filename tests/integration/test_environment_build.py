"""Environments of replicas: inherited when they fit, else built once."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import msgspec
import pytest

from shipway.backends.environments import (
    build_environment,
    interpreter_for,
    satisfied_by_running,
)
from shipway.core.bundles import EnvironmentLock
from shipway.core.errors import EnvironmentFailed

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
LOCK = EnvironmentLock(
    python=PYTHON,
    requirements=(f"msgspec=={version('msgspec')}", f"numpy=={version('numpy')}"),
)
OTHER = EnvironmentLock(python=PYTHON, requirements=("msgspec==0.19.0", LOCK.requirements[1]))

BUILDER = """
import os, signal, sys, msgspec
from pathlib import Path
from shipway.backends.environments import build_environment
from shipway.core.bundles import EnvironmentLock

def on_progress(line):
    print(line, flush=True)
    if sys.argv[3] and sys.argv[3] in line:
        os.kill(os.getpid(), signal.SIGKILL)

lock = msgspec.json.decode(sys.argv[1], type=EnvironmentLock)
print(build_environment(lock, Path(sys.argv[2]), on_progress=on_progress))
"""


def builder(lock, envs_dir, *, killed_at=""):
    return subprocess.Popen(
        [sys.executable, "-c", BUILDER, msgspec.json.encode(lock).decode(), envs_dir, killed_at],
        stdout=subprocess.PIPE,
        text=True,
    )


def says(python, code):
    return subprocess.run(
        [python, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    envs_dir = tmp_path_factory.mktemp("envs")
    return envs_dir, build_environment(OTHER, envs_dir)


def test_a_lock_of_the_running_versions_is_inherited(tmp_path):
    assert satisfied_by_running(LOCK)
    assert interpreter_for(LOCK, tmp_path) == Path(sys.executable)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "lock",
    [
        OTHER,
        msgspec.structs.replace(LOCK, python="3.99"),
        EnvironmentLock(python=PYTHON, requirements=("not-installed-at-all==1.0",)),
    ],
)
def test_another_version_python_or_package_is_not_satisfied(lock):
    assert not satisfied_by_running(lock)


def test_a_lock_without_the_local_label_of_a_build_is_satisfied():
    public = version("torch").partition("+")[0]

    assert satisfied_by_running(EnvironmentLock(python=PYTHON, requirements=(f"torch=={public}",)))


def test_a_built_environment_has_exactly_the_locked_versions_and_not_shipway(built):
    _, python = built

    code = "import importlib.metadata as m; print(sorted(d.name for d in m.distributions()))"
    assert says(python, "import msgspec; print(msgspec.__version__)") == "0.19.0"
    assert says(python, code) == "['msgspec', 'numpy']"


def test_a_built_environment_is_reused(built):
    envs_dir, python = built
    said = []

    assert build_environment(OTHER, envs_dir, on_progress=said.append) == python
    assert interpreter_for(OTHER, envs_dir, on_progress=said.append) == python
    assert said == []


def test_an_environment_whose_interpreter_is_gone_is_rebuilt(tmp_path):
    python = build_environment(LOCK, tmp_path)
    python.unlink()

    assert build_environment(LOCK, tmp_path) == python
    assert says(python, "print(1)") == "1"


def test_two_builders_at_once_build_it_once(tmp_path):
    first, second = builder(LOCK, tmp_path), builder(LOCK, tmp_path)

    lines = [process.communicate(timeout=120)[0].splitlines() for process in (first, second)]

    assert first.returncode == second.returncode == 0
    assert lines[0][-1] == lines[1][-1] == str(tmp_path / LOCK.digest / "bin" / "python")
    assert sum(line.startswith("Making a Python") for said in lines for line in said) == 1


def test_a_build_killed_in_the_middle_is_begun_anew(tmp_path):
    killed = builder(LOCK, tmp_path, killed_at="Creating virtual environment")
    killed.communicate(timeout=120)
    assert killed.returncode == -9
    assert (tmp_path / LOCK.digest).exists()

    said = []
    python = build_environment(LOCK, tmp_path, on_progress=said.append)

    assert said
    assert says(python, "import numpy; print(1)") == "1"


def test_a_build_that_uv_refuses_says_so_in_uvs_words_and_can_be_repeated(tmp_path):
    lock = EnvironmentLock(python=PYTHON, requirements=("msgspec==0.0.0.1", "numpy==2.0.0"))

    for _ in range(2):
        with pytest.raises(EnvironmentFailed, match=r"msgspec==0\.0\.0\.1") as caught:
            build_environment(lock, tmp_path)
        assert "package index" in caught.value.next_step


def test_an_unwritable_place_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(EnvironmentFailed, match="cannot be written"):
        build_environment(LOCK, tmp_path / "file" / "envs")


def test_the_builders_own_python_settings_do_not_leak_in(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path))
    (tmp_path / "numpy.py").write_text("raise RuntimeError('the wrong numpy')")

    assert build_environment(LOCK, tmp_path / "envs").exists()
    shutil.rmtree(tmp_path / "envs")


def test_packages_that_are_built_see_no_credentials(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[project]\nname = "tells"\nversion = "1"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    told = tmp_path / "told"
    (package / "backend.py").write_text(
        f"import os, pathlib\npathlib.Path({str(told)!r}).write_text(repr(dict(os.environ)))\n"
        "raise SystemExit('on purpose')\n"
    )
    for name in ("SHIPWAY_DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "MODEL_TOKEN"):
        monkeypatch.setenv(name, "canary-5c2e")
    monkeypatch.setenv("HTTPS_PROXY", os.environ.get("HTTPS_PROXY", "") or "http://127.0.0.1:9")
    lock = EnvironmentLock(python=PYTHON, requirements=(f"tells @ {package.as_uri()}",))
    with pytest.raises(EnvironmentFailed, match="on purpose"):
        build_environment(lock, tmp_path / "envs")
    seen = told.read_text()
    assert "canary-5c2e" not in seen
    assert "HTTPS_PROXY" in seen
