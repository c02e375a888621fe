"""Metrics as Prometheus reads them: text format 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """One metric: its `kind` is `counter`, `gauge`, `histogram` or `summary`."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...] = ()


def simple(family: Family, samples: Iterable[tuple[Labels, float]]) -> Iterable[str]:
    """The lines of a counter or a gauge."""
    yield from _head(family)
    for labels, value in samples:
        yield f"{family.name}{_labels(labels)} {_number(value)}"


def histogram(
    family: Family,
    bounds: Iterable[float],
    samples: Iterable[tuple[Labels, Iterable[float], float]],
) -> Iterable[str]:
    """The lines of a histogram, from the counts of its buckets (the last one unbounded) and the sums."""
    yield from _head(family)
    ends = [*(_number(bound) for bound in bounds), "+Inf"]
    for labels, buckets, total in samples:
        count = 0.0
        for end, bucket in zip(ends, buckets, strict=True):
            count += bucket
            yield f"{family.name}_bucket{_labels({**labels, 'le': end})} {_number(count)}"
        yield f"{family.name}_sum{_labels(labels)} {_number(total)}"
        yield f"{family.name}_count{_labels(labels)} {_number(count)}"


def summary(family: Family, samples: Iterable[tuple[Labels, float, float]]) -> Iterable[str]:
    """The lines of a summary without quantiles, from sums and counts."""
    yield from _head(family)
    for labels, total, count in samples:
        yield f"{family.name}_sum{_labels(labels)} {_number(total)}"
        yield f"{family.name}_count{_labels(labels)} {_number(count)}"


def _head(family: Family) -> Iterable[str]:
    text = family.help.replace("\\", r"\\").replace("\n", r"\n")
    yield f"# HELP {family.name} {text}"
    yield f"# TYPE {family.name} {family.kind}"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)
