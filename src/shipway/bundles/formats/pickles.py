"""Loading pickle and joblib files, with every way in which that fails told apart."""

from __future__ import annotations

import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from shipway.bundles.formats.packages import missing_package
from shipway.bundles.formats.pickle_names import PickleNames, names_in
from shipway.bundles.formats.streams import DAMAGED
from shipway.core.errors import ArtifactTruncated, MissingClass, NotAModel


def checked_names(path: Path) -> PickleNames:
    """What the pickle names, once all of it was found importable; the pickle is not run.

    Raises:
        ArtifactTruncated: the file ends too early.
        MissingClass, MissingDependency: see `check_importable`.
    """
    found = names_in(path)
    if found.truncated:
        raise truncated(path)
    check_importable(path, found)
    return found


def truncated(path: Path) -> ArtifactTruncated:
    """The error for a file that ends too early."""
    return ArtifactTruncated(
        f"`{path}` begins like a model and ends too early, or is damaged"
        f" ({path.stat().st_size:,} bytes).",
        next_step="Save or copy it again, and compare the size with the original.",
    )


def check_importable(path: Path, found: PickleNames) -> None:
    """Imports every module that the pickle names and looks the names up, without running it.

    Raises:
        MissingClass: a class or function is defined in `__main__` or is not where the pickle says.
        MissingDependency: a package is not installed.
    """
    for module, name in dict.fromkeys(found.names):
        if module == "__main__":
            raise _in_main(path, name)
        _check_name(path, module, name)


def _in_main(path: Path, name: str) -> MissingClass:
    return MissingClass(
        f"`{path}` needs `__main__.{name}`, which was defined in a script or notebook and cannot be"
        " imported anywhere else.",
        next_step=f"Move `{name}` into a module of its own, save the model again, and name the"
        " module's directory with `--code DIR` (`code=` in Python).",
        module="__main__",
        name=name,
    )


def _check_name(path: Path, module: str, name: str) -> None:
    top = module.partition(".")[0]
    if not _is_found(top):
        raise missing_package(path, top, name=f"{module}.{name}")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as exc:
        absent = (exc.name or "").partition(".")[0]
        if absent and absent != top:
            raise missing_package(path, absent, name=f"{module}.{name}") from exc
        raise _missing_class(path, module, name) from exc
    for part in name.split("."):
        found = getattr(found, part, _ABSENT)
        if found is _ABSENT:
            raise _missing_class(path, module, name)


_ABSENT = object()


def _is_found(top: str) -> bool:
    return top in sys.modules or importlib.util.find_spec(top) is not None


def _missing_class(path: Path, module: str, name: str) -> MissingClass:
    top = module.partition(".")[0]
    return MissingClass(
        f"`{path}` needs `{module}.{name}`, and the installed `{top}` has no such name.",
        next_step=f"Run `shipway package` in the environment that saved the model (another version"
        f" of `{top}`), or pass the directory of the code that defines it.",
        module=module,
        name=name,
    )


def unpickled(path: Path, load: Callable[[Path], Any]) -> Any:
    """What `load` makes of the file, with its failures named.

    Raises:
        ArtifactTruncated, MissingClass, MissingDependency, NotAModel: see each.
    """
    try:
        return load(path)
    except DAMAGED as exc:
        raise truncated(path) from exc
    except ModuleNotFoundError as exc:
        raise missing_package(path, exc.name or "?", name=exc.name or "?") from exc
    except AttributeError as exc:
        raise MissingClass(
            f"`{path}` refers to something that cannot be found: {exc}.",
            next_step="Run `shipway package` in the environment that saved the model.",
        ) from exc
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        KeyError,
        IndexError,
        ImportError,
    ) as exc:
        raise NotAModel(
            f"`{path}` is a pickle that cannot be loaded: {type(exc).__name__}: {exc}.",
            next_step="Run `shipway package` in the environment that saved the model.",
        ) from exc
