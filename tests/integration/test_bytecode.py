"""Packages are compiled before confined replicas import them."""

from importlib.metadata import distribution
from importlib.util import cache_from_source
from pathlib import Path

import pytest

from shipway.backends import bytecode


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """An installed distribution without byte code; gives its files."""
    files = ("tiny/__init__.py", "tiny/inner/__init__.py", "tiny/inner/deep.py", "tiny/data.txt")
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("X = 1\n")
    about = tmp_path / "tiny_thing-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Name: tiny-thing\nVersion: 1.0\n")
    (about / "RECORD").write_text("".join(f"{name},,\n" for name in files))
    monkeypatch.syspath_prepend(str(tmp_path))
    bytecode._uncompiled.cache_clear()
    return [tmp_path / name for name in files if name.endswith(".py")]


def is_compiled(path):
    return Path(cache_from_source(str(path))).exists()


def test_what_was_never_compiled_is_compiled_whole(tiny):
    assert distribution("tiny-thing").version == "1.0"
    bytecode.compile_missing(["tiny-thing", "not-installed"])
    assert all(map(is_compiled, tiny))


def test_what_was_compiled_before_is_left_as_it_is(tiny):
    bytecode.compile_missing(["tiny-thing"])
    Path(cache_from_source(str(tiny[2]))).unlink()
    bytecode._uncompiled.cache_clear()
    bytecode.compile_missing(["tiny-thing"])
    assert not is_compiled(tiny[2])
