"""A version on its way into an environment: what is known of it, and how it meets a rule."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.bundles import ParityReport
from shipway.core.evaluations import Evaluation
from shipway.core.policy import EnvironmentPolicy
from shipway.core.scans import Scan, Substance
from shipway.core.signature import Signature
from shipway.core.versions import VersionRef


class Opinion(StrEnum):
    """What a reviewer says of a version."""

    APPROVED = "approved"
    REJECTED = "rejected"


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """What a person said last of these bytes of a model in that environment."""

    environment: str
    digest: str
    model: str
    number: int
    reviewer: str
    decision: Opinion
    reason: str
    at: datetime


class Promotion(msgspec.Struct, frozen=True, kw_only=True):
    """That these bytes of a model were let into an environment.

    `policy_generation` is that of the policy which they met; 0 when there was none.
    """

    environment: str
    digest: str
    model: str
    number: int
    at: datetime
    by: str
    policy_generation: int


class LiveVersion(msgspec.Struct, frozen=True, kw_only=True):
    """A version that serves behind an endpoint of the environment."""

    endpoint: str
    version: VersionRef
    digest: str
    signature: Signature


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """All that a policy may ask about a version.

    `evaluations` are of its digest, newest first. `reviews` and `promotions` are of its digest and
    model, in every environment. `live` are the versions of its model that serve in the environment
    asked about, and `source` is the policy of that environment's `from_environment`, if it has one.
    `substance` is what serving it loads, `scan` what was found in its bytes, and `signed_by` names the
    policy's signers whose signature of exactly these bytes was verified.
    """

    version: VersionRef
    digest: str
    author: str
    signature: Signature
    parity: ParityReport | None = None
    evaluations: tuple[Evaluation, ...] = ()
    reviews: tuple[Review, ...] = ()
    promotions: tuple[Promotion, ...] = ()
    live: tuple[LiveVersion, ...] = ()
    source: EnvironmentPolicy | None = None
    substance: Substance = Substance.CODE
    scan: Scan | None = None
    signed_by: tuple[str, ...] = ()

    def reviews_in(self, environment: str) -> tuple[Review, ...]:
        """What was said of exactly these bytes there."""
        return tuple(
            review
            for review in self.reviews
            if (review.environment, review.digest, review.model)
            == (environment, self.digest, self.version.model)
        )

    def promotion_to(self, environment: str) -> Promotion | None:
        """That exactly these bytes were let in there; None when they were not."""
        wanted = (environment, self.digest, self.version.model)
        return next(
            (p for p in self.promotions if (p.environment, p.digest, p.model) == wanted), None
        )


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """One rule of a policy beside what was found. `next_step` says how to meet it."""

    asks: str
    found: str
    met: bool
    next_step: str = ""

    @property
    def line(self) -> str:
        """Both in one line."""
        return f"{self.asks}: {self.found}"
