"""Where an endpoint could cost less: advice with the saving and the evidence, from what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import msgspec

from shipway.core.costs import Prices
from shipway.core.endpoints import Cache
from shipway.core.repeats import Compared, Repeats

LEAST_HOURS = 1.0
LEAST_REQUESTS = 1000
"""Less traffic than this is no ground for advice."""

BUSY = 0.6
"""Replicas are sized so that they are busy for so much of the time at the highest load seen."""

LEAST_SAVING = 0.01
"""In the currency, per month: below it, nothing is worth a change."""

HOURS_PER_MONTH = 730.0

LEAST_REPEATED = 0.1
"""A cache that answers fewer is not worth its memory."""

CACHE = Cache()
"""The cache that is advised: as it is when nothing is said about it."""


class Observed(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of one version behind an endpoint over `hours`.

    `busy` is the highest mean number of requests in the model at once in any minute; `cpu_s` and
    `memory_gb` (one replica's) are the replicas'. `infer_s` is the mean time in the model per batch,
    `batch_rows` the mean rows of a batch, `max_batch_rows` the most it may have, `queue_s` the mean wait before it.
    `size_mb` is the model's, `is_float32` whether its weights are. `compared` is what the prediction log
    has to tell equal requests by; None where it does not have them whole, or a cache is there already.
    """

    endpoint: str
    version: str
    hours: float
    requests: int
    replicas: float
    least_replicas: int = 1
    busy: float = 0.0
    cpu_s: float = 0.0
    memory_gb: float = 0.0
    infer_s: float | None = None
    queue_s: float | None = None
    batch_rows: float | None = None
    max_batch_rows: int = 1
    batchable: bool = True
    size_mb: float | None = None
    is_float32: bool = False
    compared: Compared | None = None


class Advice(msgspec.Struct, frozen=True, kw_only=True):
    """One way to spend less. `saving` is per month, in `currency`; an estimate from the evidence."""

    kind: str
    endpoint: str
    version: str
    saving: float
    currency: str
    what: str
    evidence: str
    command: str


class Unknown(msgspec.Struct, frozen=True, kw_only=True):
    """Evidence about an endpoint that could not be had, so that advice of that kind may be missing."""

    kind: str
    endpoint: str
    version: str
    why: str


class AdviceReport(msgspec.Struct, frozen=True, kw_only=True):
    """Advice, the largest saving first, and what could not be found out."""

    advice: tuple[Advice, ...] = ()
    unknown: tuple[Unknown, ...] = ()


def advised(
    observed: Observed, prices: Prices, *, repeats: Repeats | None = None
) -> tuple[Advice, ...]:
    """What would make a version cheaper, the largest saving first; nothing without enough evidence.

    `repeats` are those of its requests; None where they were not counted.
    """
    if not _is_enough(observed):
        return ()
    found = [
        one
        for one in (
            *_fewer_replicas(observed, prices),
            *_batching(observed, prices),
            *_quantisation(observed, prices),
            *_cache(observed, prices, repeats),
        )
        if one.saving >= LEAST_SAVING
    ]
    return tuple(sorted(found, key=lambda one: -one.saving))


def may_need_cache(observed: Observed, prices: Prices) -> bool:
    """Whether its repeated requests are worth counting: a cache would pay if all of them were."""
    most = _per_month(_cpu_cost_per_hour(observed, prices)) if _is_enough(observed) else 0.0
    return observed.compared is not None and most >= LEAST_SAVING


def _is_enough(observed: Observed) -> bool:
    return observed.hours >= LEAST_HOURS and observed.requests >= LEAST_REQUESTS


def _per_month(cost_per_hour: float) -> float:
    return cost_per_hour * HOURS_PER_MONTH


def _cpu_cost_per_hour(observed: Observed, prices: Prices) -> float:
    return observed.cpu_s / 3600 / observed.hours * prices.cpu_hour


def _fewer_replicas(observed: Observed, prices: Prices) -> Iterator[Advice]:
    """Replicas that would be idle at the highest load seen. Idle ones cost their memory."""
    enough = max(observed.least_replicas, ceil(observed.busy / BUSY), 1)
    spare = int(observed.replicas) - enough
    if spare <= 0:
        return
    yield Advice(
        kind="replicas",
        endpoint=observed.endpoint,
        version=observed.version,
        saving=_per_month(spare * observed.memory_gb * prices.memory_gb_hour),
        currency=prices.currency,
        what=f"Run {enough} instead of {int(observed.replicas)} replicas.",
        evidence=(
            f"In the busiest minute {observed.busy:.2f} requests were in the model at once;"
            f" {enough} replicas would be busy for {100 * observed.busy / enough:.0f} % of it."
        ),
        command=f"shipway deploy {observed.version} -e {observed.endpoint} --replicas {enough}",
    )


def _batching(observed: Observed, prices: Prices) -> Iterator[Advice]:
    """Single rows that queue for a model: stacked, they share the fixed cost of a call.

    Half of a call's time is taken to be fixed, which a batch of `n` rows pays once instead of `n` times.
    """
    rows, queue_s, infer_s = observed.batch_rows, observed.queue_s, observed.infer_s
    if not observed.batchable or rows is None or queue_s is None or infer_s is None:
        return
    # Where it may stack more, and does not, the replica has measured that it would not pay.
    if observed.max_batch_rows > 1 or rows > 1.5 or queue_s < infer_s or infer_s <= 0:
        return
    waiting = queue_s / infer_s
    saved = 0.5 * (1 - 1 / (1 + waiting))
    yield Advice(
        kind="batching",
        endpoint=observed.endpoint,
        version=observed.version,
        saving=_per_month(saved * _cpu_cost_per_hour(observed, prices)),
        currency=prices.currency,
        what="Let the replica stack requests that wait.",
        evidence=(
            f"Requests waited {1000 * queue_s:.1f} ms for a model that takes {1000 * infer_s:.1f} ms,"
            f" and its batches had {rows:.1f} rows, as `limits.max_batch_rows` has it."
        ),
        command=(
            f"Leave `limits.max_batch_rows` out of the spec of `{observed.endpoint}`, and `shipway apply` it."
        ),
    )


def _quantisation(observed: Observed, prices: Prices) -> Iterator[Advice]:
    """Large float32 models that keep cores busy: int8 weights take a quarter of the memory.

    Of the processor time a third is taken to be saved; the accuracy must be checked.
    """
    if not observed.is_float32 or observed.size_mb is None or observed.size_mb < 20:
        return
    memory = 0.75 * observed.size_mb / 1000 * observed.replicas * prices.memory_gb_hour
    yield Advice(
        kind="quantisation",
        endpoint=observed.endpoint,
        version=observed.version,
        saving=_per_month(memory + _cpu_cost_per_hour(observed, prices) / 3),
        currency=prices.currency,
        what="Try int8 weights, and evaluate them against this version.",
        evidence=f"{observed.size_mb:,.0f} MB of float32 weights, {observed.cpu_s / observed.hours / 3600:.2f} cores.",
        command=f"shipway evaluate {observed.version} --data FILE --label COLUMN",
    )


def _cache(observed: Observed, prices: Prices, repeats: Repeats | None) -> Iterator[Advice]:
    """Requests that ask again what was just asked: a cache answers them without the model."""
    if repeats is None or repeats.requests < LEAST_REQUESTS or repeats.share < LEAST_REPEATED:
        return
    redacted = () if observed.compared is None else observed.compared.redacted
    evidence = (
        f"Of the newest {repeats.requests:,} requests, {100 * repeats.share:.0f} % had inputs that were"
        f" asked within {CACHE.ttl_s:g} s before."
    )
    if redacted:
        names = ", ".join(f"`{name}`" for name in redacted)
        evidence += f" It is less if they differ in what is redacted: {names}."
    yield Advice(
        kind="cache",
        endpoint=observed.endpoint,
        version=observed.version,
        saving=_per_month(repeats.share * _cpu_cost_per_hour(observed, prices)),
        currency=prices.currency,
        what=f"Keep answers for equal inputs {CACHE.ttl_s:g} s long.",
        evidence=evidence,
        command="Add `cache: {}` to the endpoint's YAML, if the model's answers depend on nothing but its inputs.",
    )
