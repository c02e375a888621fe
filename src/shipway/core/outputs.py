"""From an engine's outputs to the callers': threshold, then names."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from shipway.core.bundles import ModelConfig
from shipway.core.signature import Signature
from shipway.core.tensors import Array

Outputs = dict[str, Array]
Finish = Callable[[Outputs], Outputs]


def finisher(config: ModelConfig, classes: Sequence[str | int | float | bool] | None) -> Finish:
    """The function that applies a version's config to an engine's outputs.

    With a threshold, `label` [rows] becomes `classes[1]` where `probabilities[:, 1] >= threshold`
    and `classes[0]` elsewhere.
    """
    if config.threshold is None and not config.output_names:
        return _unchanged
    names = config.output_names
    threshold = config.threshold
    pair = _class_pair(classes) if threshold is not None else None

    def finish(outputs: Outputs) -> Outputs:
        if pair is not None and "probabilities" in outputs and "label" in outputs:
            above = outputs["probabilities"][:, 1] >= threshold
            outputs = {**outputs, "label": pair[above.astype(np.intp)]}
        return {names.get(name, name): array for name, array in outputs.items()}

    return finish


def engine_signature(signature: Signature, config: ModelConfig) -> Signature:
    """The signature with the engine's own output names in place of the callers'."""
    own = {name: engine_name for engine_name, name in config.output_names.items()}
    outputs = tuple(
        msgspec.structs.replace(field, name=own.get(field.name, field.name))
        for field in signature.outputs
    )
    return msgspec.structs.replace(signature, outputs=outputs)


def _class_pair(classes: Sequence[str | int | float | bool] | None) -> Array | None:
    if classes is None or len(classes) != 2:
        return None
    pair = np.array(list(classes))
    return pair.astype(object) if pair.dtype.kind == "U" else pair


def _unchanged(outputs: Outputs) -> Outputs:
    return outputs


def selected(outputs: Outputs, wanted: Sequence[str] | None) -> Outputs:
    """Only the wanted outputs, in the order they were asked for; all of them for None."""
    return outputs if wanted is None else {name: outputs[name] for name in wanted}
