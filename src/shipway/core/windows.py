"""What was seen lately, so that harm that begins late in a long step is not lost among what was well."""

from __future__ import annotations

import msgspec

from shipway.core.evidence import Account, Evidence, TrialReport

WINDOW_S = 60.0
"""So long is a window; the next begins with counts of its own."""


class Windows:
    """Where the present window of each rollout began. One for all; not for threads.

    It forgets with its process; the window that is then under way begins later, which does no harm.
    """

    def __init__(self) -> None:
        self._begins: dict[str, tuple[int, int, TrialReport]] = {}

    def seen(self, evidence: Evidence) -> Evidence:
        """The evidence with what was seen in the present window."""
        step, window = evidence.step, 1 + int(evidence.elapsed_s // WINDOW_S)
        begin = self._begins.get(step.rollout)
        if begin is None or begin[:2] != (step.epoch, window):
            begin = self._begins[step.rollout] = (step.epoch, window, step)
        if window == 1:
            return evidence
        return msgspec.structs.replace(evidence, recent=since(begin[2], step), window=window)

    def keep_only(self, rollouts: set[str]) -> None:
        """Drops the windows of other rollouts."""
        self._begins = {name: begin for name, begin in self._begins.items() if name in rollouts}


def since(begin: TrialReport, now: TrialReport) -> TrialReport:
    """The requests that a report counts and an earlier one did not; only how they ended.

    Counts of a gateway that has gone since are missing in the later one: none is below zero.
    """
    return TrialReport(
        rollout=now.rollout,
        epoch=now.epoch,
        primary=_since(begin.primary, now.primary),
        candidate=_since(begin.candidate, now.candidate),
    )


def _since(begin: Account, now: Account) -> Account:
    return Account(
        answered=max(0, now.answered - begin.answered),
        failed=max(0, now.failed - begin.failed),
        rejected=max(0, now.rejected - begin.rejected),
    )
