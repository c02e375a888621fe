"""A rollout's plan laid out: one list of positions, whatever its strategies are."""

from __future__ import annotations

import msgspec

from shipway.core.strategies import (
    Ab,
    BlueGreen,
    Canary,
    RolloutPlan,
    Segment,
    Shadow,
    Stage,
    Sticky,
    steps_of,
)


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a laid-out plan: the candidate's share, and when it is left.

    `weight_pct` is its share of requests, `mirror_pct` the share of them that is copied to it.
    """

    stage: int
    strategy: str
    label: str
    weight_pct: int = 0
    mirror_pct: float = 0.0
    hold_s: float = 0.0
    hold_requests: int = 0
    pause: bool = False
    sticky: Sticky | None = None
    segments: tuple[Segment, ...] = ()
    test: Ab | None = None

    @property
    def is_observed(self) -> bool:
        """Whether the candidate gets requests here, which guards can judge."""
        return self.weight_pct > 0 or self.mirror_pct > 0


def positions(plan: RolloutPlan) -> tuple[Position, ...]:
    """The plan laid out, stage by stage."""
    return tuple(
        position
        for number, stage in enumerate(plan.stages)
        for position in _laid_out(number, stage)
    )


def _laid_out(number: int, stage: Stage) -> tuple[Position, ...]:
    match stage:
        case Canary():
            return tuple(
                Position(
                    stage=number,
                    strategy="canary",
                    label=f"canary {step.weight_pct} %",
                    weight_pct=step.weight_pct,
                    hold_s=step.hold_s or 0.0,
                    hold_requests=step.hold_requests or 0,
                    pause=step.pause,
                    sticky=stage.sticky,
                )
                for step in steps_of(stage)
            )
        case BlueGreen():
            preview = Position(
                stage=number,
                strategy="blue_green",
                label="preview",
                hold_s=stage.preview_s,
                pause=stage.pause,
            )
            bake = Position(
                stage=number,
                strategy="blue_green",
                label="bake",
                weight_pct=100,
                hold_s=stage.bake_s,
            )
            return (preview, bake)
        case Shadow():
            return (
                Position(
                    stage=number,
                    strategy="shadow",
                    label=f"shadow {stage.share_pct:g} %",
                    mirror_pct=stage.share_pct,
                    hold_s=stage.hold_s,
                    hold_requests=stage.hold_requests,
                    pause=stage.pause,
                ),
            )
        case Ab():
            return (
                Position(
                    stage=number,
                    strategy="ab",
                    label=f"A/B on {stage.metric}",
                    weight_pct=stage.weight_pct,
                    pause=stage.pause,
                    sticky=stage.sticky,
                    segments=stage.segments,
                    test=stage,
                ),
            )
