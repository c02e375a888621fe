"""A person's own Python class, in one source file or a directory of them."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any

from shipway.bundles.formats.packages import missing_package
from shipway.bundles.formats.port import CannotCompile, CompiledOnnx, OpenArtifact, Sample
from shipway.bundles.formats.sources import imported_modules, model_classes, sources_of
from shipway.core.bundles import Format
from shipway.core.errors import InvalidArtifact, MissingClass, NotAModel
from shipway.core.signature import Signature
from shipway.engines.python import PythonEngine, create


class PythonFormat:
    """A class with `predict(self, inputs)`, constructed without arguments.

    `load(self, directory)`, when there is one, is called once with the directory of the model's
    files. Next to the code may lie whatever it reads.
    """

    name = Format.PYTHON

    def recognises(self, path: Path) -> bool:
        """Whether some source file defines a class with `predict`."""
        if path.is_dir() and (path / "MLmodel").exists():
            return False
        return bool(model_classes(sources_of(path)))

    def open(self, path: Path, *, options: dict[str, Any]) -> OpenArtifact:
        """Imports the code and makes the model; `options["class"]` picks among several classes."""
        sources = sources_of(path)
        name = _chosen(path, model_classes(sources), options.get("class"))
        home = _home(path)
        model = _created(path, home, name)
        artifact = OpenArtifact(
            format=self.name,
            model=model,
            engine=PythonEngine(model),
            modules=imported_modules(sources) | {"numpy"},
            options={"class": name},
        )
        if home is not path:
            weakref.finalize(model, shutil.rmtree, home.parent, ignore_errors=True)
        return artifact

    def to_onnx(
        self, artifact: OpenArtifact, signature: Signature, sample: Sample | None
    ) -> CompiledOnnx:
        """There is none: Python code has no graph."""
        raise CannotCompile("Python code is served as it is.")


def _home(path: Path) -> Path:
    """The directory, or a copy of the one file that sees no more than the bundle will hold."""
    if path.is_dir():
        return path
    return Path(shutil.copy(path, Path(tempfile.mkdtemp(prefix="shipway-")) / path.name))


def _chosen(path: Path, found: list[str], wanted: str | None) -> str:
    if wanted is None and len(found) == 1:
        return found[0]
    if not found:
        raise NotAModel(
            f"`{path}` defines no class with `predict`.",
            next_step="Write `class Model: def predict(self, inputs): …`.",
        )
    matches = [name for name in found if wanted in (name, name.partition(":")[2])]
    if len(matches) == 1:
        return matches[0]
    if wanted is None:
        raise InvalidArtifact(
            f"`{path}` defines several classes with `predict`: {', '.join(found)}.",
            next_step=f"Say which one serves, for example `class: {found[0]}`.",
            classes=found,
        )
    raise MissingClass(
        f"`{path}` has no class `{wanted}` with `predict`; it has {', '.join(found)}.",
        next_step="Write the class as `module:Class`.",
        name=wanted,
    )


def _created(path: Path, home: Path, name: str) -> Any:
    try:
        return create(home, name)
    except ModuleNotFoundError as exc:
        absent = (exc.name or "?").partition(".")[0]
        raise missing_package(path, absent, name=exc.name or "?") from exc
    except Exception as exc:
        raise InvalidArtifact(
            f"`{name}` of `{path}` cannot be created: {type(exc).__name__}: {exc}.",
            next_step="Its constructor takes no arguments, and `load` takes the directory of the"
            " model's files; pass a directory that holds all of them.",
            name=name,
        ) from exc
