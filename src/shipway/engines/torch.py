"""The PyTorch engines: TorchScript modules and programs of `torch.export`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shipway.core.tensors import Array
from shipway.engines.frames import matrix_of


def load_script(path: Path) -> Any:
    """The TorchScript module in a file, on the CPU, in evaluation mode."""
    import torch

    with warnings.catch_warnings():
        # TorchScript is deprecated; models saved with it still have to be served.
        warnings.simplefilter("ignore")
        return torch.jit.load(str(path), map_location="cpu").eval()


def load_exported(path: Path) -> Any:
    """The `torch.export.ExportedProgram` in a .pt2 archive."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.export.load(str(path))


def use_threads(threads: int) -> None:
    """Sets how many threads torch computes with, in the whole process."""
    import torch

    torch.set_num_threads(threads)


def script_inputs(module: Any) -> tuple[str, ...]:
    """The names of the arguments that `forward` must have."""
    arguments = module.forward.schema.arguments[1:]
    return tuple(item.name for item in arguments if not item.has_default_value())


def exported_inputs(program: Any) -> tuple[str, ...]:
    """The names of the program's inputs, in the order of its call."""
    return tuple(str(name) for name in program.graph_signature.user_inputs)


class TorchEngine:
    """A module that takes tensors by position. Not thread-safe when its `forward` keeps state."""

    def __init__(self, module: Any, names: Sequence[str], *, keywords: Sequence[str] = ()) -> None:
        """`names` are its inputs in order; those in `keywords` are passed by keyword."""
        import torch

        self._torch = torch
        self._module = module
        self._names = tuple(names)
        self._keywords = frozenset(keywords)
        self._real = next(
            (p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32
        )

    @classmethod
    def of_script(cls, module: Any) -> TorchEngine:
        """The engine of a TorchScript module."""
        return cls(module, script_inputs(module))

    @classmethod
    def of_program(cls, program: Any) -> TorchEngine:
        """The engine of an exported program."""
        keywords = program.call_spec.in_spec.children_specs[1].context or ()
        return cls(program.module(), exported_inputs(program), keywords=keywords)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs: named when the model returns a dict, else `output_0`, `output_1` and so on."""
        with self._torch.inference_mode():
            tensors = self._tensors(inputs)
            keywords = {n: t for n, t in tensors.items() if n in self._keywords}
            positional = [t for n, t in tensors.items() if n not in self._keywords]
            return _named(self._module(*positional, **keywords))

    def _tensors(self, inputs: Mapping[str, Array]) -> dict[str, Any]:
        if all(name in inputs for name in self._names):
            return {name: self._tensor(inputs[name]) for name in self._names}
        if len(self._names) == 1 and all(array.ndim == 1 for array in inputs.values()):
            return {self._names[0]: self._tensor(matrix_of(inputs)).to(self._real)}
        tensors = (self._tensor(array) for array in inputs.values())
        return dict(zip(self._names, tensors, strict=True))

    def _tensor(self, array: Array) -> Any:
        contiguous = np.ascontiguousarray(array)
        # Arrays that came over the wire are read-only, which torch warns about.
        writable = contiguous if contiguous.flags.writeable else contiguous.copy()
        tensor = self._torch.from_numpy(writable)
        return tensor.to(self._real) if tensor.is_floating_point() else tensor


def _named(value: Any) -> dict[str, Array]:
    if isinstance(value, Mapping):
        return {str(name): _array(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return {name: _array(getattr(value, name)) for name in value._fields}
    items = value if isinstance(value, (tuple, list)) else (value,)
    return {f"output_{index}": _array(item) for index, item in enumerate(items)}


def _array(value: Any) -> Array:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
