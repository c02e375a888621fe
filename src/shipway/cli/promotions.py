"""Policies, promotions and reviews as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import typer
import yaml

from shipway.cli.output import show_table
from shipway.client.answers import PolicyChange, Standing
from shipway.core.admission import unmet
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy


def show_policy_change(change: PolicyChange) -> None:
    """What became of a policy, a line each."""
    prefix = "would: " if change.dry_run else ""
    for line in change.changes:
        typer.echo(f"{prefix}{line}")
    if not change.changes:
        typer.echo(f"The policy of `{change.name}` does not change.")


def show_policies(policies: Sequence[DeclaredPolicy]) -> None:
    """Policies, a line each."""
    rows = [
        (
            one.policy.name,
            one.generation,
            one.policy.from_environment,
            one.policy.approvals.required,
            one.policy.allowed_strategies,
            len(one.policy.freeze),
        )
        for one in policies
    ]
    show_table(
        ["environment", "#generation", "from", "#approvals", "strategies", "#freezes"],
        rows,
        empty="No environment has a policy: every version may enter. Make one with"
        " `shipway environment apply -f FILE`.",
    )


def show_policy(declared: DeclaredPolicy) -> None:
    """A policy as the YAML that would make it."""
    typer.echo(yaml.safe_dump(_plain(declared.policy), sort_keys=False).rstrip())


def _plain(policy: EnvironmentPolicy) -> dict[str, Any]:
    fields: dict[str, Any] = _given(msgspec.to_builtins(policy))
    return fields


def _given(value: Any) -> Any:
    """Without the keys that say nothing."""
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item not in (None, [], (), "")}
    if isinstance(value, list | tuple):
        return [_given(item) for item in value]
    return value


def show_promoted(standing: Standing) -> None:
    """What a promotion did, and who follows it."""
    environment = standing.environment
    did = "would promote" if standing.dry_run else "Promoted"
    typer.echo(f"{did} {standing.version} to {environment} ({standing.digest[:19]})")
    if not standing.has_policy:
        typer.echo(f"  `{environment}` has no policy: nothing was checked.")
    _show_rules(standing)
    model, _, number = standing.version.partition(":")
    if not standing.dry_run:
        moved = standing.previous not in (None, standing.alias)
        came_from = f" (was {model}:{standing.previous})" if moved else ""
        typer.echo(f"`{model}@{environment}` is {model}:{number}{came_from}.")
    for endpoint in standing.followers:
        typer.echo(f"Endpoint `{endpoint}` follows it.")
    if not standing.followers:
        typer.echo(f"No endpoint follows it. Next: shipway deploy {model}@{environment}")


def show_reviewed(standing: Standing) -> None:
    """Where a version stands once somebody has said something."""
    show_standing(standing)
    if standing.serving and not standing.admitted:
        for endpoint in standing.serving:
            typer.echo(
                f"It serves behind `{endpoint}`, or is on its way there: this stops nothing that is"
                f" under way. Next: shipway rollback {endpoint}"
            )


def show_standings(version: str, standings: Sequence[Standing]) -> None:
    """A checklist for each environment."""
    if not standings:
        typer.echo(f"No environment has a policy: `{version}` may enter all of them.")
    for position, standing in enumerate(standings):
        if position:
            typer.echo()
        show_standing(standing)


def show_standing(standing: Standing) -> None:
    """The checklist of one environment, and who said what."""
    typer.echo(f"{standing.version} ({standing.digest[:19]}) to {standing.environment}")
    _show_rules(standing)
    for review in standing.reviews:
        weight = "" if review.counts else ", which does not count"
        why = f": {review.reason}" if review.reason else ""
        typer.echo(f"  said  {review.reviewer} {review.decision.value} it{weight}{why}")
    typer.echo(f"  {_verdict(standing)}")


def _show_rules(standing: Standing) -> None:
    for rule in standing.rules:
        typer.echo(f"  {'met ' if rule.met else 'MISS'}  {rule.line}")


def _verdict(standing: Standing) -> str:
    """Where it stands, and the next command."""
    missing = unmet(standing.rules)
    promote = f"shipway promote {standing.version} --to {standing.environment}"
    if standing.promotion is None or (standing.has_policy and not standing.admitted):
        steps = list(dict.fromkeys(rule.next_step for rule in missing if rule.next_step))
        lost = (
            "promoted, and may not be deployed any more" if standing.promotion else "not promoted"
        )
        return f"{lost}. Next: {'; '.join([*steps, f'`{promote}`'])}"
    promotion = standing.promotion
    at = f"{promotion.at:%Y-%m-%d %H:%M} UTC"
    where = f"; serves behind {', '.join(standing.serving)}" if standing.serving else ""
    return f"promoted by {promotion.by}, {at}{where}"
