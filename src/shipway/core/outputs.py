"""From an engine's outputs to the callers': threshold, then names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from shipway.core.bundles import ModelConfig
from shipway.core.errors import ModelFailed
from shipway.core.signature import Field, Signature
from shipway.core.tensors import NUMPY_OF, Array

Outputs = dict[str, Array]
Finish = Callable[[Outputs], Outputs]


def finisher(
    signature: Signature,
    config: ModelConfig,
    classes: Sequence[str | int | float | bool] | None,
) -> Finish:
    """The function that checks an engine's outputs and applies a version's config to them.

    With a threshold, `label` [rows] becomes `classes[1]` where `probabilities[:, 1] >= threshold`
    and `classes[0]` elsewhere. It raises ModelFailed where an output that is declared a number is none.
    """
    numbers = {field.name: field for field in signature.outputs if field.dtype.is_numeric}
    shaped = _shaper(config, classes)

    def finish(outputs: Outputs) -> Outputs:
        finished = shaped(outputs)
        for name, array in finished.items():
            if array.dtype.kind in "OSU" and name in numbers:
                return _as_numbers(finished, numbers)
        return finished

    return finish


def _as_numbers(outputs: Outputs, numbers: Mapping[str, Field]) -> Outputs:
    """The outputs with those that are declared numbers as such, where their objects are.

    Raises:
        ModelFailed: one is no number.
    """
    made = dict(outputs)
    for name in numbers.keys() & outputs.keys():
        array, field = outputs[name], numbers[name]
        if array.dtype.kind not in "OSU":
            continue
        if any(isinstance(value, str | bytes) for value in array.ravel()):
            raise _no_number(field)
        try:
            made[name] = array.astype(NUMPY_OF[field.dtype])
        except (TypeError, ValueError) as exc:
            raise _no_number(field) from exc
    return made


def _no_number(field: Field) -> ModelFailed:
    return ModelFailed(
        f"The model's output `{field.name}` is no number; it is declared {field.dtype}.",
        next_step="Package the model with a signature that says what it gives.",
        output=field.name,
    )


def _shaper(config: ModelConfig, classes: Sequence[str | int | float | bool] | None) -> Finish:
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
