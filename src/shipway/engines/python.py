"""The engine of a person's own Python class."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.answers import named
from shipway.engines.code import CodeSpace


def create(path: Path, name: str) -> Any:
    """An instance of class `module:Class` of the code at `path`, loaded from its directory.

    The class is constructed without arguments; its `load`, when it has one, is called once with the
    directory that holds the code.
    """
    module, _, kind = name.rpartition(":")
    space = CodeSpace(path)
    with space.under_plain_names():
        model = getattr(space.import_module(module), kind)()
        load = getattr(model, "load", None)
        if load is not None:
            load(path if path.is_dir() else path.parent)
    return model


class PythonEngine:
    """An object with `predict`. As thread-safe as its own code."""

    def __init__(self, model: Any) -> None:
        """`model.predict` takes a dict of arrays and gives a dict of arrays, or one array."""
        self._predict = model.predict

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The returned entries by their keys; a bare array or list is `prediction`."""
        answers = named(self._predict(dict(inputs)))
        return {name: np.atleast_1d(array) for name, array in answers.items()}
