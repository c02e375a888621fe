"""How long audit events are kept. Only a beginning of the chain can go, so one that must stay keeps all after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from shipway.core.audit import AuditEvent


class Pruned(msgspec.Struct, frozen=True, kw_only=True):
    """What was archived, or with `dry_run` would be: events `first` to `last`, both 0 for none."""

    events: int = 0
    first: int = 0
    last: int = 0
    archive: str = ""
    dry_run: bool = False


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """What may go at `now`.

    `keep_days` has each environment with a policy; None keeps for ever, as do environments that are not
    in it. `before` is a person's wish: it lets go of what nothing says how long to keep, and never of
    what a policy keeps.
    """

    keep_days: Mapping[str, int | None]
    now: datetime
    before: datetime | None = None

    def lets_go(self, event: AuditEvent) -> bool:
        """Whether the event is old enough."""
        days = self._days(environment_of(event))
        if days is None:
            return self.before is not None and event.at < self.before
        oldest = self.now - timedelta(days=days)
        return event.at < (oldest if self.before is None else min(oldest, self.before))

    def _days(self, environment: str | None) -> int | None:
        """For how many days to keep; None where no policy says."""
        if environment is not None:
            return self.keep_days.get(environment)
        # What belongs to no environment is kept as long as anything.
        said = [days for days in self.keep_days.values() if days is not None]
        is_bound = self.before is not None or len(said) == len(self.keep_days)
        return max(said) if said and is_bound else None


def environment_of(event: AuditEvent) -> str | None:
    """The environment that an event was in; None for those of models, keys and the like."""
    if event.action.startswith("environment."):
        return event.subject
    sides = [event.details.get(side) for side in ("after", "before")]
    specs = [side.get("spec") for side in sides if isinstance(side, dict)]
    for facts in (event.details, *sides, *specs):
        name = facts.get("environment") if isinstance(facts, dict) else None
        if isinstance(name, str):
            return name
    return None


def last_to_go(events: Iterable[AuditEvent], retention: Retention) -> int:
    """The number of the last event of the chain's beginning that may go; 0 when none may."""
    last = 0
    for event in events:
        if not retention.lets_go(event):
            break
        last = event.sequence
    return last
