"""Which of a version's outputs is its prediction, and so what the truth is compared with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from shipway.core.bundles import ModelConfig
from shipway.core.captures import columns_of
from shipway.core.evaluations import Task
from shipway.core.labels import Label, label_text
from shipway.core.signature import Field, Signature
from shipway.core.summaries import label_output
from shipway.core.tensors import DataType


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version's prediction is: names of columns of its prediction log, empty for none.

    Of a classification, `label` or at least `probabilities`, whose columns are those of `classes`, as texts.
    Of a regression, `number`. `is_number`: labels are compared as numbers; `is_boolean`: and shown as
    `true` and `false`.
    """

    task: Task
    label: str = ""
    probabilities: str = ""
    number: str = ""
    classes: tuple[str, ...] = ()
    is_number: bool = False
    is_boolean: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that it needs."""
        return tuple(name for name in (self.label, self.probabilities, self.number) if name)


def target_of(
    signature: Signature, config: ModelConfig, classes: Sequence[Label] | None
) -> Target | None:
    """The target of a version; None where none of its outputs is one.

    The label is the one that rollouts compare (see `core.summaries`). Without a label, the most probable
    class where classes are known, else the first output that is one float, which makes it a regression.
    """
    columns = columns_of(
        [field.name for field in signature.inputs], [field.name for field in signature.outputs]
    )[1]
    label = label_output(signature, config)
    chances = config.output_names.get("probabilities", "probabilities")
    has_chances = chances in columns and bool(classes)
    if not label and not has_chances:
        number = next((field.name for field in signature.outputs if _is_one_float(field)), "")
        return Target(task=Task.REGRESSION, number=columns[number]) if number else None
    kinds = {field.name: field.dtype for field in signature.outputs}
    known = tuple(classes or ())
    return Target(
        task=Task.CLASSIFICATION,
        label=columns[label] if label else "",
        probabilities=columns[chances] if has_chances else "",
        classes=tuple(label_text(one) for one in known),
        is_number=kinds[label].is_numeric if label else not isinstance(known[0], str),
        is_boolean=kinds[label] is DataType.BOOL if label else isinstance(known[0], bool),
    )


def _is_one_float(field: Field) -> bool:
    return field.dtype.is_float and all(size == 1 for size in field.shape[1:])
