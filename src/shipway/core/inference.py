"""One inference, free of any protocol."""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.core.tensors import Array


class InferenceRequest(msgspec.Struct, kw_only=True):
    """What a codec makes of a caller's bytes.

    `inputs` maps input names to arrays (columns: shape [rows]). `outputs` are the names of the
    wanted outputs, None for all. `id` is echoed to the caller; empty when none was given. `timeout_s`
    is how long the caller waits, None when it did not say. `parameters` are the codec's own.
    """

    inputs: dict[str, Array]
    outputs: tuple[str, ...] | None = None
    id: str = ""
    parameters: dict[str, Any] | None = None
    timeout_s: float | None = None


class InferenceResponse(msgspec.Struct, kw_only=True):
    """What a codec turns into the caller's bytes. `outputs` are in signature order.

    `marks` say how the answer came about, as extra headers (name in lower case, value).
    `classes` are a classifier's, in the order of its probabilities; None for other models.
    """

    model: str
    version: str
    outputs: dict[str, Array]
    id: str = ""
    marks: tuple[tuple[bytes, bytes], ...] = ()
    classes: tuple[str | int | float | bool, ...] | None = None
