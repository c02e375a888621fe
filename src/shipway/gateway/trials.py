"""A rollout at one of its steps, as a gateway has it: who gets the candidate, and what was seen."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import inf

from shipway.core.assignment import is_moved, place_of
from shipway.core.evidence import Account, TrialReport, quantile
from shipway.core.redaction import NOTHING, Redaction
from shipway.core.signature import Signature
from shipway.core.stalls import Seconds
from shipway.core.strategies import Source
from shipway.gateway.mirror import Mirror
from shipway.gateway.variants import LiveVariant
from shipway.wire.snapshot import Route, Trial

MOST_TRIED = 0.5
"""The candidate holds at most this share of the endpoint's queue: one that hangs does not fill it."""

CANDIDATES_SHARE = 0.5
"""Of a request's deadline, for the candidate; the primary has the rest to answer in its place."""

TOO_LONG = 10.0
TOO_LONG_S = 1.0
ENOUGH = 100
"""A candidate has a second, or so many times what the primary's slowest hundredth takes, if that is more.

Once the primary has answered enough for that to be known. Callers have deadlines of their own that they
do not tell: a candidate that hangs must not use them up.
"""

ValueOf = Callable[[Source, str], str | None]
"""Gives what a request says of its caller, by where it is and its name."""


class LiveTrial:
    """Outlives snapshots for as long as its step lasts; the next step begins with empty accounts.

    `report` has the accounts, which requests that began in this step are entered in even once it is
    over. `reads_alike`: a request that was decoded for one version is decoded for the other.
    `patience_s` is how long the candidate may take. What is entered goes through `redaction`.
    """

    def __init__(self, spec: Trial, *, patience_s: float = inf) -> None:
        self.spec = spec
        self.patience_s = patience_s
        self.report = TrialReport(
            rollout=spec.rollout, epoch=spec.epoch, primary=Account(), candidate=Account()
        )
        self.primary_seconds = Seconds(self.report.primary)
        self.candidate_seconds = Seconds(self.report.candidate)
        self.mirror = Mirror(self.report, self.candidate_seconds)
        self.primary: LiveVariant
        self.candidate: LiveVariant
        self.reads_alike = False
        self.redaction = NOTHING
        self._most_tried = 1

    def follow(
        self,
        spec: Trial,
        route: Route,
        primary: LiveVariant,
        candidate: LiveVariant,
        redaction: Redaction,
    ) -> None:
        """Takes over what a snapshot says of the step, the route and the two versions."""
        self.spec, self.primary, self.candidate = spec, primary, candidate
        self.reads_alike = _form(primary.spec.signature) == _form(candidate.spec.signature)
        self._most_tried = max(1, int(route.limits.max_queue * MOST_TRIED))
        deadline_s = route.limits.deadline_ms / 1000
        self.redaction = redaction
        self.mirror.follow(
            candidate, deadline_s=deadline_s, tolerance=spec.tolerance, redaction=redaction
        )

    @property
    def is_full(self) -> bool:
        """Whether the candidate holds as many requests as it may."""
        return self.candidate.load.in_flight >= self._most_tried

    def allowed_s(self, left_s: float) -> float:
        """How long the candidate may take of a request that has that long."""
        return min(left_s * CANDIDATES_SHARE, self.patience_s)

    def learn(self) -> None:
        """Takes over from the primary's answers how long is too long."""
        latency = self.report.primary.latency
        slow_s = quantile(latency, 0.99)
        if slow_s is not None and sum(latency.values()) >= ENOUGH:
            self.patience_s = max(TOO_LONG_S, TOO_LONG * slow_s)

    def takes_part(self, value_of: ValueOf) -> bool:
        """Whether a request is inside of all segments."""
        return all(value_of(one.by, one.name) in one.values for one in self.spec.segments)

    def is_moved(self, value_of: ValueOf) -> bool:
        """Whether a request is the candidate's: by its caller's key, by chance without one."""
        weight_pct, sticky = self.candidate.spec.weight_pct, self.spec.sticky
        key = None
        if sticky is not None and 0 < weight_pct < 100:
            key = value_of(sticky.by, sticky.name)
        place = random.random() * 100 if key is None else place_of(self.spec.rollout, key)
        return is_moved(place, weight_pct)

    def is_mirrored(self) -> bool:
        """Whether a request that the primary had is copied to the candidate: by chance."""
        share_pct = self.spec.mirror_pct
        return share_pct > 0 and random.random() * 100 < share_pct

    def close(self) -> None:
        """Drops what is copied or waits to be; idempotent."""
        self.mirror.close()


def trial_of(
    route: Route,
    variants: Sequence[LiveVariant],
    before: LiveTrial | None,
    redaction: Redaction = NOTHING,
) -> LiveTrial | None:
    """The trial of a route: the one from before when its step is the same.

    None without a rollout, or where one of its two versions is not behind the route.
    """
    spec = route.trial
    by_key = {variant.spec.key: variant for variant in variants}
    if spec is None or spec.primary not in by_key or spec.candidate not in by_key:
        return None
    trial = _continued(spec, before)
    trial.follow(spec, route, by_key[spec.primary], by_key[spec.candidate], redaction)
    return trial


def _continued(spec: Trial, before: LiveTrial | None) -> LiveTrial:
    if before is None or before.spec.rollout != spec.rollout:
        return LiveTrial(spec)
    if before.spec.epoch == spec.epoch:
        return before
    before.learn()
    return LiveTrial(spec, patience_s=before.patience_s)


def _form(signature: Signature) -> object:
    """What a codec looks at: two versions differ in what was inferred of ranges, seldom in this."""
    inputs = tuple((field.name, field.dtype, field.shape) for field in signature.inputs)
    return signature.layout, inputs, signature.output_names()
