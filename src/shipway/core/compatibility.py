"""Can callers of one version go on with another? What would break for them, a line each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from shipway.core.signature import Field, Signature
from shipway.core.tensors import NUMPY_OF, DataType


def incompatibilities(live: Signature, new: Signature) -> tuple[str, ...]:
    """What callers of `live` would be refused or miss with `new`; empty when nothing.

    An input must be taken in every form and value that was taken before; an output must be given in
    the very form that it had. More outputs break nobody.
    """
    return (*_form(live, new), *_inputs(live, new), *_outputs(live, new))


def _form(live: Signature, new: Signature) -> Iterator[str]:
    if live.layout is not new.layout:
        yield f"inputs were {live.layout.value}, and are {new.layout.value}"
    common = [field.name for field in live.inputs if field.name in _named(new.inputs)]
    if common != [name for name in _named(new.inputs) if name in common]:
        yield "inputs are in another order, by which rows without names are read"
    if live.batchable and not new.batchable:
        yield "several rows in one request are no longer taken"


def _inputs(live: Signature, new: Signature) -> Iterator[str]:
    before, after = _named(live.inputs), _named(new.inputs)
    # A request must have every input and no other, so both directions break a caller.
    for name, old in before.items():
        if name in after:
            yield from _narrowed(old, after[name])
        else:
            yield f"input `{name}` is no longer taken"
    for name in after:
        if name not in before:
            yield f"input `{name}` is new, and required"


def _narrowed(live: Field, new: Field) -> Iterator[str]:
    """What the new input refuses of that which the live one takes."""
    name = live.name
    if not _takes(new.dtype, live.dtype):
        yield f"input `{name}` was {live.dtype.value}, and is {new.dtype.value}"
    if not _fits(live.shape, new.shape):
        yield f"input `{name}` had shape {list(live.shape)}, and has {list(new.shape)}"
    if live.nullable and not new.nullable:
        yield f"input `{name}` took null, and does not"
    yield from _bounds(live, new)


def _bounds(live: Field, new: Field) -> Iterator[str]:
    """Ranges and categories that are enforced: only declared ones are."""
    name, declared = live.name, live.declared
    low = live.minimum if "minimum" in declared else None
    high = live.maximum if "maximum" in declared else None
    if "minimum" in new.declared and new.minimum is not None and (low is None or low < new.minimum):
        yield f"input `{name}` must now be at least {new.minimum:g}"
    if (
        "maximum" in new.declared
        and new.maximum is not None
        and (high is None or high > new.maximum)
    ):
        yield f"input `{name}` must now be at most {new.maximum:g}"
    if "categories" in new.declared and new.categories is not None:
        taken = live.categories if "categories" in declared else None
        lost = None if taken is None else sorted(set(taken) - set(new.categories))
        if lost is None:
            yield f"input `{name}` must now be one of {len(new.categories)} categories"
        elif lost:
            yield f"input `{name}` no longer takes {', '.join(f'`{value}`' for value in lost)}"


def _outputs(live: Signature, new: Signature) -> Iterator[str]:
    before, after = _named(live.outputs), _named(new.outputs)
    for name, old in before.items():
        given = after.get(name)
        if given is None:
            yield f"output `{name}` is no longer given"
            continue
        if given.dtype is not old.dtype:
            yield f"output `{name}` was {old.dtype.value}, and is {given.dtype.value}"
        if not _fits(given.shape, old.shape):
            yield f"output `{name}` had shape {list(old.shape)}, and has {list(given.shape)}"
        if given.nullable and not old.nullable:
            yield f"output `{name}` may now be null"


def _takes(wanted: DataType, sent: DataType) -> bool:
    """Whether every value of `sent` is one of `wanted`; the validator turns no bool into a number."""
    if wanted is sent:
        return True
    numbers = all(kind.is_numeric and kind is not DataType.BOOL for kind in (wanted, sent))
    return numbers and np.can_cast(NUMPY_OF[sent], NUMPY_OF[wanted], "safe")


def _fits(shape: tuple[int, ...], into: tuple[int, ...]) -> bool:
    """Whether every array of `shape` is one of `into`; -1 is any size."""
    return len(shape) == len(into) and all(
        wanted in (-1, size) for size, wanted in zip(shape, into, strict=True)
    )


def _named(fields: Iterable[Field]) -> dict[str, Field]:
    return {field.name: field for field in fields}
