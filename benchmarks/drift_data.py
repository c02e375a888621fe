"""The streams that drift is looked for in: real ones that ship inside of packages, and generated ones.

Of a package that is not installed, the archive is fetched with pip and unpacked, never installed.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

MULTIFLOW = "scikit-multiflow==0.4.1"
"""The last release whose source archive has Elec2, Covertype, the NOAA weather and SEA."""

HALF_HOURS = 48
VICTORIA = 360 * HALF_HOURS
"""2 May 1997, when Victoria joined the market (Harries, "Splice-2 comparative evaluation", 1999)."""


@dataclass(frozen=True)
class Stream:
    """Rows in order, in hours of so many rows. `change` is the row at which it is known to drift."""

    name: str
    values: np.ndarray
    names: tuple[str, ...]
    per_hour: int
    change: int | None
    expected: tuple[str, ...]
    baseline_hours: int
    window_hours: int = 24
    looks_every: int = 1


def archive(directory: Path) -> Path:
    """The unpacked data sets of scikit-multiflow's source archive."""
    found = directory / "scikit-multiflow-0.4.1" / "src" / "skmultiflow" / "data" / "datasets"
    if not found.exists():
        # Its build needs NumPy for the name and version that pip wants to know.
        flags = ["--quiet", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
        command = [sys.executable, "-m", "pip", "download", *flags, "--dest", str(directory)]
        subprocess.run([*command, MULTIFLOW], check=True, capture_output=True)
        with tarfile.open(directory / "scikit-multiflow-0.4.1.tar.gz") as tar:
            tar.extractall(directory, filter="data")
    return found


def table(path: Path, rows: int | None = None) -> np.ndarray:
    with path.open(newline="") as file:
        lines = csv.reader(file)
        next(lines)
        return np.array([list(map(float, line)) for line in islice(lines, rows)])


def elec2(directory: Path) -> Stream:
    names = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
    return Stream(
        name="Elec2: Victoria joins the market",
        values=table(archive(directory) / "elec.csv")[:, :6],
        names=names,
        per_hour=2,
        change=VICTORIA,
        expected=names[3:],
        baseline_hours=8 * 7 * 24,
        window_hours=7 * 24,
        looks_every=24,
    )


def weather(directory: Path) -> Stream:
    """NOAA's weather of Bellevue, shuffled, as its seasons move; then the temperature comes in Celsius."""
    values = table(archive(directory) / "weather.csv")[:, :8]
    values = np.random.default_rng(1).permutation(values)
    values[9000:, 0] = (values[9000:, 0] - 32) / 1.8
    names = ("temperature", "dew", "sea_pressure", "visibility", "wind", "gust", "max", "min")
    return Stream(
        name="NOAA weather: Fahrenheit to Celsius",
        values=values,
        names=names,
        per_hour=25,
        change=9000,
        expected=names[:1],
        baseline_hours=80,
    )


def cover(directory: Path) -> Stream:
    """Covertype's land, shuffled, as it is sorted by region; then the elevation comes in feet."""
    path = archive(directory) / "covtype.csv"
    values = np.random.default_rng(6).permutation(table(path, 60_000)[:9000, :50])
    values[5300:, 0] /= 0.3048
    with path.open() as file:
        names = tuple(file.readline().strip().split(",")[:50])
    return Stream(
        name="Covertype: elevation in feet",
        values=values,
        names=names,
        per_hour=25,
        change=5300,
        expected=names[:1],
        baseline_hours=80,
    )


def digits() -> Stream:
    """scikit-learn's digits: first 0 to 4, then all ten."""
    from sklearn.datasets import load_digits

    found = load_digits()
    random = np.random.default_rng(2)
    low = random.choice(np.flatnonzero(found.target < 5), 6000)
    all_ = random.choice(len(found.target), 3000)
    return Stream(
        name="digits: five more classes appear",
        values=found.data[np.concatenate([low, all_])],
        names=tuple(f"pixel {at}" for at in range(64)),
        per_hour=25,
        change=6000,
        expected=(),
        baseline_hours=80,
    )


def radial(width: int) -> Stream:
    """river's RandomRBF, whose centres move at row 6000, at once or over `width` rows."""
    from river.datasets import synth

    old, new = (
        synth.RandomRBF(seed_model=seed, seed_sample=seed, n_features=10, n_centroids=20)
        for seed in (42, 7)
    )
    values = _joined(old, new) if width == 1 else _mixed(old, new, width)
    return Stream(
        name=f"river RandomRBF, {'abrupt' if width == 1 else f'over {width} rows'}",
        values=values,
        names=tuple(f"x{at}" for at in range(10)),
        per_hour=25,
        change=6000,
        expected=(),
        baseline_hours=80,
    )


def _joined(old, new) -> np.ndarray:
    taken = [*old.take(6000), *new.take(3000)]
    return np.array([list(x.values()) for x, _ in taken])


def _mixed(old, new, width: int) -> np.ndarray:
    from river.datasets import synth

    mixed = synth.ConceptDriftStream(old, new, position=6000, width=width, seed=3)
    return np.array([list(x.values()) for x, _ in mixed.take(9000)])


def sea() -> Stream:
    """river's SEA: the concept changes, the inputs do not. Nothing is to be found in them."""
    from river.datasets import synth

    values = _joined(synth.SEA(variant=0, seed=4), synth.SEA(variant=3, seed=5))
    return Stream(
        name="river SEA, inputs (only the concept drifts)",
        values=values,
        names=("x0", "x1", "x2"),
        per_hour=25,
        change=None,
        expected=(),
        baseline_hours=80,
    )


def streams(directory: Path) -> list[Stream]:
    return [elec2(directory), weather(directory), digits(), radial(1), radial(1500), sea()]


def controls(
    directory: Path,
) -> dict[int, tuple[str, Callable[[np.random.Generator, int], np.ndarray]]]:
    """By number of features: where rows without drift come from."""
    elec = table(archive(directory) / "elec.csv")[:, 1:6]
    cover = table(archive(directory) / "covtype.csv", 60_000)[:, :50]

    def shuffled(values: np.ndarray) -> Callable[[np.random.Generator, int], np.ndarray]:
        return lambda random, rows: values[random.choice(len(values), rows, replace=False)]

    return {
        5: ("Elec2, shuffled", shuffled(elec)),
        50: ("Covertype, shuffled", shuffled(cover)),
        500: ("made: normal, log-normal, uniform, zero-inflated, few values", made),
    }


def made(random: np.random.Generator, rows: int) -> np.ndarray:
    values = random.normal(size=(rows, 500)).astype(np.float32)
    values[:, 100:200] = np.exp(values[:, 100:200])
    values[:, 200:300] = random.random((rows, 100))
    values[:, 300:400] *= random.random((rows, 100)) < 0.5
    values[:, 400:500] = random.binomial(6, 0.3, (rows, 100))
    return values
