"""What must stay true of the whole tree, whoever changes a part."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shipway.core.errors as errors
from shipway.wire.problems import STATUS_OF

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "shipway"
TRACKED = subprocess.run(
    ["git", "ls-files"], cwd=ROOT, check=True, capture_output=True, text=True
).stdout.split()


def tree(kind):
    return {kind}.union(*(tree(child) for child in kind.__subclasses__()))


def test_imports_point_down():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_error_tree_is_drawn_whole_and_every_code_is_its_own():
    kinds = tree(errors.ShipwayError)
    drawing = (errors.__doc__ or "").split("fault it is.", 1)[1].split("Each class", 1)[0]
    assert {kind.__name__ for kind in kinds} == set(re.findall(r"\b[A-Z]\w+\b", drawing))
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert {kind.code for kind in kinds} <= set(STATUS_OF)


def test_a_process_is_confined_by_the_standard_library_alone():
    """It happens before anything of a model's environment may run."""
    first = [
        PACKAGE / "replica" / f"{name}.py" for name in ("__main__", "start", "door", "options")
    ]
    for path in (*first, *sorted((PACKAGE / "confinement").glob("*.py"))):
        imports = [node for node in ast.parse(path.read_text()).body if _is_import(node)]
        names = {name for node in imports for name in _imported(node)}
        ours = {name for name in names if name.startswith("shipway")}
        rooms = ("shipway.confinement", "shipway.replica.")
        assert {name for name in ours if not name.startswith(rooms)} == set(), path
        assert {name.split(".")[0] for name in names - ours} <= sys.stdlib_module_names, path


def _is_import(node):
    return isinstance(node, ast.Import | ast.ImportFrom)


def _imported(node):
    return [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]


LAZY = PACKAGE / "wire" / "arrow.py"
"""Imported with the first Arrow or Parquet body (decision 0006), by nothing at its own import."""


P_VALUES = PACKAGE / "core" / "drift" / "significance.py"
"""Needs SciPy; only what computes over many predictions imports `core.drift`."""


@pytest.mark.parametrize("room", ["core", "wire", "engines", "replica"])
def test_what_a_replica_runs_needs_nothing_but_msgspec_and_numpy_at_import(room):
    """It starts in a model's own environment, where nothing else of ours is installed."""
    allowed = {"msgspec", "numpy", "shipway", *sys.stdlib_module_names}
    for path in sorted((PACKAGE / room).rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            if path not in (LAZY, P_VALUES):
                assert {name.split(".")[0] for name in names} <= allowed, path
            assert "shipway.wire.arrow" not in names, path
            is_drift = path.parent == P_VALUES.parent or path == PACKAGE / "core" / "quality.py"
            assert is_drift or not any(n.startswith("shipway.core.drift") for n in names), path


def test_replica_starts_in_an_interpreter_without_shipway(tmp_path):
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("msgspec", "numpy", "numpy.libs"):
        source = Path(__import__("msgspec").__file__).parents[1] / name
        if source.exists():
            (bare / name).symlink_to(source)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c",
         f"import sys; sys.path.insert(0, {str(bare)!r}); sys.argv = ['r', '--help'];"
         f"import runpy; runpy.run_path({str(PACKAGE / 'replica' / '__main__.py')!r},"
         " run_name='__main__')"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "--max-batch-rows" in done.stdout


@pytest.mark.parametrize("name", ["requirements-dev.lock", "pyproject.toml", "Makefile", ".ci/run"])
def test_what_installs_names_no_host(name):
    assert "://" not in (ROOT / name).read_text()


def test_no_path_of_this_machine_is_written_down():
    places = {str(ROOT), str(Path.home())} - {"/"}
    for name in TRACKED:
        text = (ROOT / name).read_text(errors="replace")
        assert not [place for place in places if f"{place}/" in text], name


def test_file_names_are_nouns_of_the_domain():
    empty = {"utils", "helpers", "common", "manager", "base", "misc"}
    assert not [path for path in PACKAGE.rglob("*.py") if path.stem in empty]


def test_readme_stays_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150
