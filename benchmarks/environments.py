"""The peers' virtual environments: one each, because their requirements contradict one another.

    python benchmarks/environments.py list
    python benchmarks/environments.py install all
    python benchmarks/environments.py install mosec mlserver

They lie under `benchmarks/.venvs`, or where BENCH_VENVS points (5 GB for all of them). A peer that
is not installed is left out of a run. The floor and the hand-written service need none: they run
in the project's own environment.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
SYSTEM_PYTHON = "/usr/bin/python3"
# A pickled model is read by the release of scikit-learn that wrote it.
SHARED = ("scikit-learn", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a peer's environment holds, and the distribution that gives its version."""

    distribution: str
    requirements: tuple[str, ...]
    python: str = sys.executable


ENVIRONMENTS = {
    # uvicorn takes uvloop and httptools when it finds them; these two do not bring them along.
    "bentoml": Environment(distribution="bentoml", requirements=("bentoml", "uvloop", "httptools")),
    "kserve": Environment(distribution="kserve", requirements=("kserve",)),
    "litserve": Environment(distribution="litserve", requirements=("litserve",)),
    "mlflow": Environment(
        distribution="mlflow", requirements=("mlflow", "onnx", "uvloop", "httptools")
    ),
    # A fresh install takes a uvloop that no longer has what MLServer asks of it.
    "mlserver": Environment(
        distribution="mlserver", requirements=("mlserver", "mlserver-sklearn", "uvloop<0.22")
    ),
    "mosec": Environment(distribution="mosec", requirements=("mosec", "msgspec")),
    "ray": Environment(distribution="ray", requirements=("ray[serve]",)),
    # Its backend links the system's libpython, so its standard library must be that one's.
    "triton": Environment(
        distribution="nvidia-pytriton", requirements=("nvidia-pytriton",), python=SYSTEM_PYTHON
    ),
}


def directory() -> Path:
    """Where the environments lie."""
    return Path(os.environ.get("BENCH_VENVS") or HERE / ".venvs").resolve()


def path_of(name: str) -> Path:
    """Root of one environment, installed or not."""
    return directory() / name


def is_installed(name: str) -> bool:
    """Whether an install of this environment ran to its end."""
    return (path_of(name) / ".installed").exists()


def version_of(name: str) -> str | None:
    """Version of the peer in its environment; None when it is not installed."""
    if not is_installed(name):
        return None
    packages = str(next((path_of(name) / "lib").glob("python3*")) / "site-packages")
    wanted = ENVIRONMENTS[name].distribution
    found = importlib.metadata.distributions(name=wanted, path=[packages])
    return next((distribution.version for distribution in found), None)


def shared_requirements() -> list[str]:
    """The releases that every environment has to share with the one that trained the models."""
    return ["joblib", *(f"{name}=={importlib.metadata.version(name)}" for name in SHARED)]


def install(name: str) -> None:
    """Make one environment from nothing.

    Raises:
        subprocess.CalledProcessError: when a requirement could not be installed.
    """
    environment, target = ENVIRONMENTS[name], path_of(name)
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([environment.python, "-m", "venv", str(target)], check=True)
    python = str(target / "bin" / "python")
    requirements = [*environment.requirements, *shared_requirements()]
    pip = [python, "-m", "pip", "install", "-qq", *requirements]
    bytecode = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    subprocess.run(pip, check=True, env=bytecode)
    (target / ".installed").touch()


def install_all(names: list[str]) -> int:
    """How many could not be installed; each failure is told, and the others go on."""
    failures = 0
    for name in names:
        started = time.monotonic()
        try:
            install(name)
        except subprocess.CalledProcessError as failure:
            failures += 1
            print(f"{name}: {failure}", file=sys.stderr)
            continue
        print(f"{name} {version_of(name)}: {time.monotonic() - started:.0f} s")
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("action", choices=["install", "list"])
    parser.add_argument("names", nargs="*", help=f"`all`, or of: {' '.join(ENVIRONMENTS)}")
    options = parser.parse_args()
    if options.action == "list":
        for name in ENVIRONMENTS:
            print(f"{name:10}{version_of(name) or 'not installed'}")
        return 0
    names = list(ENVIRONMENTS) if options.names == ["all"] else options.names
    if not names or (unknown := set(names) - set(ENVIRONMENTS)):
        parser.error(f"install what? {' '.join(sorted(unknown)) if names else ''}")
    return install_all(names)


if __name__ == "__main__":
    sys.exit(main())
