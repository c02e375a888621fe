"""The use of this machine's GPUs, as NVIDIA's library says, where `pynvml` and a device are there.

https://docs.nvidia.com/deploy/nvml-api/group__nvmlDeviceQueries.html
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any


class Gpus:
    """Asks the devices. Where there are none it asks once."""

    def __init__(self) -> None:
        self._nvml: Any = None
        self._devices: list[Any] | None = None

    def look(self) -> Mapping[str, float]:
        """How many devices there are, and their use in percent together; nothing without any."""
        if self._devices is None:
            self._devices = self._found()
        if not self._devices:
            return {}
        try:
            rates = [self._nvml.nvmlDeviceGetUtilizationRates(one) for one in self._devices]
        except self._nvml.NVMLError:
            return {}
        return {"gpus": len(rates), "gpu_pct": sum(rate.gpu for rate in rates)}

    def _found(self) -> list[Any]:
        try:
            self._nvml = importlib.import_module("pynvml")
        except ImportError:
            return []
        try:
            self._nvml.nvmlInit()
            count = self._nvml.nvmlDeviceGetCount()
            return [self._nvml.nvmlDeviceGetHandleByIndex(place) for place in range(count)]
        except self._nvml.NVMLError:
            return []
