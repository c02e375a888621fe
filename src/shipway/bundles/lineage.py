"""Where a bundle came from: bytes of the source, commit, training data, who and when."""

from __future__ import annotations

import getpass
import subprocess
from collections.abc import Iterable
from datetime import datetime
from hashlib import file_digest, sha256
from pathlib import Path

from shipway.core.bundles import Lineage
from shipway.core.errors import InvalidRequest

_GIT_TIMEOUT_S = 10.0
_LEFTOVERS = frozenset({"__pycache__", ".git", ".DS_Store", ".ipynb_checkpoints"})


def files_in(path: Path) -> tuple[Path, ...]:
    """The file itself, or every file below a directory in path order, without caches and `.git`."""
    if not path.is_dir():
        return (path,)
    found = (one for one in path.rglob("*") if one.is_file())
    kept = (one for one in found if not _LEFTOVERS & set(one.relative_to(path).parts))
    return tuple(sorted(kept, key=lambda one: one.relative_to(path).as_posix()))


def sha256_of_file(path: Path) -> str:
    """The hex SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def sha256_of(path: Path) -> str:
    """The hex SHA-256 of a file, or of a directory's sorted lines `<file hash>  <relative path>`."""
    if not path.is_dir():
        return sha256_of_file(path)
    lines = (f"{sha256_of_file(one)}  {one.relative_to(path).as_posix()}" for one in files_in(path))
    return sha256("\n".join(lines).encode()).hexdigest()


def lineage_of(
    source: Path,
    *,
    created_at: datetime,
    label: str | None = None,
    training_data: Path | None = None,
    run_id: str | None = None,
) -> Lineage:
    """The lineage of an artifact. `label` stands for the path of a source that was an object.

    For an object, commit and state are those of the working directory's repository. Hashes the
    source and the training data.

    Raises:
        InvalidRequest: the training data cannot be read.
    """
    commit, dirty = _git_state(Path.cwd() if label else source.absolute().parent)
    return Lineage(
        source=label or str(source),
        source_sha256=sha256_of(source),
        created_at=created_at,
        created_by=_user(),
        git_commit=commit,
        git_dirty=dirty,
        training_data=str(training_data) if training_data else None,
        training_data_sha256=_training_digest(training_data),
        run_id=run_id,
    )


def _training_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return sha256_of(path)
    except OSError as exc:
        raise InvalidRequest(
            f"The training data `{path}` cannot be read: {exc.strerror}.",
            next_step="Give the path of the file or directory that the model was trained on.",
            path=str(path),
        ) from exc


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "unknown"


def _git_state(directory: Path) -> tuple[str | None, bool | None]:
    """Commit and whether files differ from it; Nones outside a repository or without git."""
    commit = _git(directory, ["rev-parse", "HEAD"])
    if not commit:
        return None, None
    status = _git(directory, ["status", "--porcelain", "--untracked-files=no"])
    return commit, None if status is None else bool(status)


def _git(directory: Path, arguments: Iterable[str]) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(directory), *arguments],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
