from __future__ import annotations

import os
import subprocess
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.store import MemoryStore

from shipway.core.errors import StateUnusable, StoreUnavailable
from shipway.store.predictions.objects import LogObjects
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.store.state import usable_directory


def test_usable_directory_is_made_and_left_empty(tmp_path: Path) -> None:
    made = usable_directory(tmp_path / "a" / "b")
    assert made.is_absolute()
    assert list(made.iterdir()) == []


@pytest.mark.parametrize("place", ["/proc/shipway", "/dev/null/state"])
def test_directory_that_cannot_be_made_is_state_unusable(place: str) -> None:
    with pytest.raises(StateUnusable, match=f"`{place}` cannot be used"):
        usable_directory(Path(place))


def test_full_disk_is_state_unusable(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from shipway.core.errors import StateUnusable\n"
        "from shipway.store.state import usable_directory\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        "try: usable_directory(Path(sys.argv[1]))\n"
        "except StateUnusable as exc: print(exc)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "cannot be used: File too large" in done.stdout
    assert "free some space" in done.stdout


def test_file_that_is_no_database_is_store_unavailable(tmp_path: Path) -> None:
    (tmp_path / "shipway.db").write_bytes(b"not a database, but long enough to look at" * 50)
    with pytest.raises(StoreUnavailable, match="not a database"):
        Database.open(sqlite_url(tmp_path))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("nonsense", "not a database URL"),
        ("mysql://root@localhost/x", "keeps no state in `mysql`"),
        ("postgresql://u:pa55word@127.0.0.1:1/x", "cannot be used"),
        ("postgres://u:pa55word@127.0.0.1:1/x", "cannot be used"),
        ("postgresql://u@127.0.0.1:pa55word/x", "not a database URL"),
    ],
)
def test_unusable_database_url_is_refused_in_words_and_tells_no_secret(
    url: str, words: str
) -> None:
    with pytest.raises(StoreUnavailable, match=words) as caught:
        Database.open(url)
    assert "pa55word" not in "".join(traceback.format_exception(caught.value))


def test_staging_directory_is_gone_after_its_block_and_swept_after_a_crash(tmp_path: Path) -> None:
    staging = Staging(tmp_path / "staging")
    assert staging.sweep(unused_since=datetime(2100, 1, 1, tzinfo=UTC)) == []
    with staging.new() as directory:
        (directory / "file").write_bytes(b"x")
    assert not directory.exists()
    left = tmp_path / "staging" / "left"
    left.mkdir()
    long_ago = 1_000_000_000
    os.utime(left, (long_ago, long_ago))
    written_at = datetime.fromtimestamp(long_ago, tz=UTC)
    assert staging.sweep(unused_since=written_at - timedelta(hours=1)) == []
    assert staging.sweep(unused_since=written_at + timedelta(hours=1)) == ["left"]
    assert not left.exists()


def test_a_sweep_leaves_what_others_remove_meanwhile(tmp_path: Path, monkeypatch) -> None:
    staging, listed = Staging(tmp_path), Path.iterdir
    (tmp_path / "left").mkdir()
    (tmp_path / "theirs").mkdir()

    def raced(directory: Path) -> Iterator[Path]:
        for path in listed(directory):
            if path.name == "theirs":
                path.rmdir()
            yield path

    monkeypatch.setattr(Path, "iterdir", raced)
    assert staging.sweep(unused_since=datetime.max.replace(tzinfo=UTC)) == ["left"]


def test_a_file_pushed_out_of_the_cache_as_it_is_opened_stays_whole_for_others(
    tmp_path: Path, monkeypatch
) -> None:
    store = MemoryStore()
    obstore.put(store, "a.parquet", b"rows")
    log = LogObjects(store, None, "memory")

    def pushed_out(kept: Path) -> None:
        kept.unlink()
        obstore.put(store, "a.parquet", b"")
        raise FileNotFoundError

    with log.near([("a.parquet", 4)], tmp_path) as theirs:
        monkeypatch.setattr(os, "utime", pushed_out)
        with log.near([("a.parquet", 4)], tmp_path) as mine:
            assert mine["a.parquet"].read_bytes() == b"rows"
            assert theirs["a.parquet"].read_bytes() == b"rows"
