"""The baseline profile of a sample, by column or by feature of a matrix."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from shipway.bundles.formats.port import Sample
from shipway.core.profile import Profile, column_profile
from shipway.core.tensors import Array

MAX_FEATURES = 1000
"""A wider matrix, or a tensor of more dimensions, is profiled as one column of all its values."""


def profile_of(sample: Sample) -> Profile:
    """The profile of every column; feature 3 of the matrix `X` is named `X[3]`."""
    columns = {
        label: column_profile(values)
        for name, array in sample.inputs.items()
        for label, values in _columns(name, array)
    }
    return Profile(rows=sample.rows, columns=columns)


def profile_json(profile: Profile) -> bytes:
    """The bytes of `profile.json`; the same profile always gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(profile), indent=1) + b"\n"


def _columns(name: str, array: Array) -> Iterator[tuple[str, Array]]:
    if array.ndim == 2 and array.shape[1] <= MAX_FEATURES:
        for index in range(array.shape[1]):
            yield f"{name}[{index}]", array[:, index]
    else:
        yield name, array
