"""What runs a model: arrays in, arrays out. One module per framework; `load` picks by format.

Engines are shared by packaging (parity is measured with the code that will serve), by replicas, and,
for ONNX, by gateways. They import `core`, the standard library, msgspec and numpy; a framework is
imported when the first model of its format is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from shipway.core.tensors import Array


class Engine(Protocol):
    """A loaded model. Not thread-safe unless its docstring says so."""

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Every output for these inputs, by the engine's own output names, in a fixed order.

        Inputs follow the signature: columns are 1-D arrays [rows], tensors have their own shape.
        May block; raises whatever the model's code raises.
        """
        ...
