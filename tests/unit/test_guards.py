"""What guards say of evidence: laws that hold for any, and tables of what is said when."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.evidence import (
    Account,
    Evidence,
    Moments,
    Outcomes,
    Pairs,
    TrialReport,
    bucket_of,
)
from shipway.core.guards import Finding, Setting, Verdict, judged
from shipway.core.rollouts import Decision, Event, begun, decide, moved
from shipway.core.stalls import Seconds
from shipway.core.strategies import (
    Ab,
    BlueGreen,
    Canary,
    Crashes,
    Disagreement,
    ErrorRate,
    Goal,
    Guards,
    Latency,
    MetricGuard,
    RolloutPlan,
    Shadow,
    Shift,
)
from shipway.core.versions import VersionRef
from shipway.core.windows import Windows, since

CANARY = Setting(weight_pct=5, steps=4)
SHADOW = Setting(weight_pct=0, mirror_pct=100.0)
BAKE = Setting(weight_pct=100)

few = st.integers(0, 3000)
buckets = st.dictionaries(st.integers(-800, 1000), st.integers(1, 500), max_size=6)
accounts = st.builds(
    Account,
    answered=few,
    failed=few,
    rejected=few,
    shed=few,
    latency=buckets,
    slowest=buckets,
    labels=st.dictionaries(st.sampled_from("abcd"), st.integers(1, 900), max_size=4),
    scores=buckets,
)
pairs = st.integers(0, 900).flatmap(
    lambda n: st.builds(Pairs, compared=st.just(n), agreed=st.integers(0, n))
)
floats = st.floats() | st.floats(0, 1) | st.just(1e59)
moments = st.builds(Moments, n=few, total=floats, squares=floats)
outcomes = st.builds(Outcomes, primary=moments, candidate=moments)
evidences = st.builds(
    Evidence,
    step=st.builds(
        TrialReport,
        rollout=st.just("r"),
        epoch=st.just(1),
        primary=accounts,
        candidate=accounts,
        pairs=pairs,
    ),
    elapsed_s=st.floats(0, 1e7),
    outcomes=st.dictionaries(st.just("clicks"), outcomes, max_size=1),
    exits=st.integers(0, 5),
    gateways=st.integers(0, 2),
    expected=st.integers(0, 2),
    problem=st.sampled_from(["", "No replica is ready."]),
    problem_s=st.floats(0, 100),
)
settings = st.builds(
    Setting,
    weight_pct=st.sampled_from([0, 1, 5, 50, 99, 100]),
    mirror_pct=st.sampled_from([0.0, 100.0]),
    test=st.sampled_from([None, Ab(metric="clicks")]),
    steps=st.integers(1, 9),
    is_last=st.booleans(),
)
all_guards = st.builds(
    Guards,
    error_rate=st.sampled_from([ErrorRate(), ErrorRate(max_increase_pct=0, max_pct=0), None]),
    latency=st.sampled_from([Latency(), Latency(max_ratio=None, max_ms=20), Latency(max_ms=20)]),
    metrics=st.sampled_from([(), (MetricGuard(metric="clicks", bound=0.5),)]),
    min_requests=st.sampled_from([1, 100]),
)


def evidence(mine: Account, primary: Account, **more: Any) -> Evidence:
    pairs = more.pop("pairs", Pairs())
    step = TrialReport(rollout="r", epoch=1, primary=primary, candidate=mine, pairs=pairs)
    return Evidence(step=step, elapsed_s=more.pop("elapsed_s", 60.0), **more)


def account(answered: int = 1000, *, failed: int = 0, rejected: int = 0, ms: float = 10) -> Account:
    return Account(
        answered=answered,
        failed=failed,
        rejected=rejected,
        latency={bucket_of(ms / 1000): answered},
        labels={"a": answered // 2, "b": answered - answered // 2},
    )


def said(name: str, guards: Guards, setting: Setting, seen: Evidence) -> Finding | None:
    found = [one for one in judged(guards, setting, seen) if one.guard == name]
    assert len(found) <= 1
    return found[0] if found else None


def verdict(name: str, guards: Guards, setting: Setting, seen: Evidence) -> Verdict | None:
    finding = said(name, guards, setting, seen)
    return None if finding is None else finding.verdict


@given(guards=all_guards, setting=settings, seen=evidences)
def test_any_evidence_gives_findings_that_can_be_written_down(
    guards: Guards, setting: Setting, seen: Evidence
) -> None:
    findings = judged(guards, setting, seen)
    assert msgspec.json.decode(msgspec.json.encode(findings), type=tuple[Finding, ...])
    assert len({one.guard for one in findings}) == len(findings)
    assert all(one.message.endswith((".", "…")) for one in findings)


@given(guards=all_guards, setting=settings, seen=evidences)
def test_what_cannot_be_measured_never_passes(
    guards: Guards, setting: Setting, seen: Evidence
) -> None:
    silent = msgspec.structs.replace(seen, gateways=0, outcomes={})
    passed = {one.guard for one in judged(guards, setting, silent) if one.verdict == "pass"}
    assert passed <= {"crashes"}


@given(guards=all_guards, setting=settings)
def test_no_traffic_never_passes(guards: Guards, setting: Setting) -> None:
    findings = judged(guards, setting, evidence(Account(), Account()))
    assert {one.guard for one in findings if one.verdict == "pass"} <= {"crashes"}


@given(mine=accounts, setting=settings)
def test_equal_accounts_never_fail(mine: Account, setting: Setting) -> None:
    mine = msgspec.structs.replace(mine, rejected=0, slowest={})
    if not setting.has_primary:
        mine.failed = 0
    seen = evidence(mine, mine, pairs=Pairs(compared=900, agreed=900))
    assert not [one for one in judged(Guards(), setting, seen) if one.verdict == "fail"]


@given(mine=accounts, primary=accounts, more=st.integers(1, 500))
def test_more_failures_never_turn_a_fail_into_a_pass(
    mine: Account, primary: Account, more: int
) -> None:
    more = min(more, mine.answered)
    worse = msgspec.structs.replace(mine, answered=mine.answered - more, failed=mine.failed + more)
    before = verdict("error_rate", Guards(), CANARY, evidence(mine, primary))
    after = verdict("error_rate", Guards(), CANARY, evidence(worse, primary))
    assert before != "fail" or after == "fail"


@given(mine=accounts, primary=accounts, by=st.integers(1, 100))
def test_slower_answers_never_turn_a_fail_into_a_pass(
    mine: Account, primary: Account, by: int
) -> None:
    mine = msgspec.structs.replace(mine, slowest={})
    slower = msgspec.structs.replace(
        mine, latency={bucket + by: count for bucket, count in mine.latency.items()}
    )
    guards = Guards(latency=Latency(max_ms=20))
    before = verdict("latency", guards, CANARY, evidence(mine, primary))
    after = verdict("latency", guards, CANARY, evidence(slower, primary))
    assert before != "fail" or after == "fail"


@pytest.mark.parametrize(
    ("mine", "primary", "expected"),
    [
        (account(1000), account(19_000), "pass"),
        (account(30), account(570), "running"),
        (account(0, failed=5), account(95), "fail"),
        (account(970, failed=30), account(19_000, failed=20), "fail"),
        (account(990, failed=8), account(19_000, failed=20), "pass"),
        (account(118, failed=2), account(2280), "running"),
        (account(950, failed=50), account(18_000, failed=1000), "pass"),
    ],
)
def test_error_rate_needs_both_an_effect_and_evidence(
    mine: Account, primary: Account, expected: str
) -> None:
    assert verdict("error_rate", Guards(), CANARY, evidence(mine, primary)) == expected


def test_message_says_the_numbers() -> None:
    finding = said(
        "error_rate",
        Guards(),
        CANARY,
        evidence(account(700, failed=30), account(13_872, failed=28)),
    )
    assert finding is not None
    assert finding.message == (
        "Error rate 4.11 % of 730 requests against 0.2 % of 13,900;"
        " at most 1 point more is let pass."
    )


def test_absolute_bound_of_errors_holds_whatever_the_primary_does() -> None:
    guards = Guards(error_rate=ErrorRate(max_pct=5))
    seen = evidence(account(800, failed=200), account(800, failed=200))
    assert verdict("error_rate", guards, CANARY, seen) == "fail"
    assert verdict("error_rate", Guards(), CANARY, seen) == "pass"


def test_without_a_primary_relative_guards_bind_nothing_but_hard_errors_do() -> None:
    good = judged(Guards(), BAKE, evidence(account(), Account()))
    assert {one.verdict for one in good} == {Verdict.PASS}
    assert {one.guard for one in good} == {"crashes", "error_rate", "rejections"}
    bad = evidence(account(900, failed=100), Account())
    assert verdict("error_rate", Guards(), BAKE, bad) == "fail"


def test_slower_candidate_fails_and_a_little_slower_passes() -> None:
    for mine, expected in ((16, "fail"), (14.8, "pass"), (10, "pass")):
        seen = evidence(account(ms=mine), account(19_000, ms=10))
        assert verdict("latency", Guards(), CANARY, seen) == expected
    seen = evidence(account(ms=5), account(19_000, ms=1))
    assert verdict("latency", Guards(), CANARY, seen) == "pass", "5 ms more are always let pass"


def test_absolute_bound_of_latency_needs_no_primary() -> None:
    guards = Guards(latency=Latency(max_ratio=None, max_ms=20))
    for mine, expected in ((40, "fail"), (15, "pass")):
        assert verdict("latency", guards, BAKE, evidence(account(ms=mine), Account())) == expected


def test_answers_from_the_cache_do_not_keep_a_candidate_waiting_for_latencies() -> None:
    cached = msgspec.structs.replace(account(1000), latency={300: 40})
    for mine, primary in ((cached, account()), (account(), cached)):
        assert verdict("latency", Guards(), CANARY, evidence(mine, primary)) is None
    few = msgspec.structs.replace(account(900), latency={300: 40})
    assert verdict("latency", Guards(), CANARY, evidence(few, account())) == "running"


@pytest.mark.parametrize(
    ("stalled_s", "expected"), [(0, "pass"), (1, "pass"), (2, "pass"), (9, "fail")]
)
def test_one_stall_does_not_condemn_a_candidate(stalled_s: int, expected: str) -> None:
    mine, primary = Account(latency={}, slowest={}), account(30_000)
    seconds = Seconds(mine)
    for at in range(30):
        for request in range(50):
            is_stalled = 10 <= at < 10 + stalled_s
            seconds.count(0.9 if is_stalled else 0.01, at_s=at + request / 50)
            mine.answered += 1
    assert verdict("latency", Guards(), CANARY, evidence(mine, primary)) == expected


def test_slowest_seconds_are_part_of_the_latencies() -> None:
    mine = Account(latency={}, slowest={})
    seconds = Seconds(mine)
    for at in range(100):
        seconds.count(0.01 * (1 + at % 7), at_s=at / 4)
        assert all(count <= mine.latency[bucket] for bucket, count in mine.slowest.items())
    assert sum(mine.latency.values()) == 100
    assert sum(mine.slowest.values()) == 16, "three whole seconds, and the present one"


def test_shift_of_labels_and_of_scores_is_seen() -> None:
    primary = Account(answered=19_000, labels={"a": 9500, "b": 9500}, scores={300: 9500, 340: 9500})
    for share, expected in ((0.5, "pass"), (0.62, "pass"), (0.75, "fail")):
        first = int(1000 * share)
        rest = 1000 - first
        labels = Account(answered=1000, labels={"a": first, "b": rest}, scores={300: 500, 340: 500})
        scores = Account(answered=1000, labels={"a": 500, "b": 500}, scores={300: first, 340: rest})
        assert verdict("shift", Guards(), CANARY, evidence(labels, primary)) == expected
        assert verdict("shift", Guards(), CANARY, evidence(scores, primary)) == expected


def test_answers_without_the_labels_that_the_others_have_are_an_error() -> None:
    seen = evidence(Account(answered=1000), account(19_000))
    assert verdict("shift", Guards(), CANARY, seen) == "error"
    none = evidence(Account(answered=1000), Account(answered=19_000))
    assert verdict("shift", Guards(), CANARY, none) is None, "nothing there to compare"
    assert verdict("shift", Guards(), CANARY, evidence(Account(answered=9), Account())) == "running"


def test_disagreement_needs_a_mirror() -> None:
    seen = evidence(account(), account(), pairs=Pairs(compared=500, agreed=300))
    assert verdict("disagreement", Guards(), SHADOW, seen) == "fail"
    assert verdict("disagreement", Guards(), CANARY, seen) is None
    lenient = Guards(disagreement=Disagreement(max_pct=50))
    assert verdict("disagreement", lenient, SHADOW, seen) == "pass"


def test_where_nothing_is_observed_only_the_process_is_judged() -> None:
    findings = judged(Guards(), Setting(weight_pct=0), evidence(Account(), account()))
    assert [one.guard for one in findings] == ["crashes"]


def test_crashes_fail_above_their_bound() -> None:
    for exits, expected in ((0, "pass"), (1, "pass"), (2, "fail")):
        seen = evidence(account(), account(), exits=exits)
        assert verdict("crashes", Guards(), CANARY, seen) == expected
    assert verdict("crashes", Guards(crashes=None), CANARY, evidence(account(), account())) is None
    strict = Guards(crashes=Crashes(max_exits=0))
    assert verdict("crashes", strict, CANARY, evidence(account(), account(), exits=1)) == "fail"


def test_candidate_that_stays_unable_to_answer_fails() -> None:
    for problem_s, expected in ((1, "error"), (31, "fail")):
        seen = evidence(account(), account(), problem="No replica is ready.", problem_s=problem_s)
        assert verdict("ready", Guards(), CANARY, seen) == expected


def test_silent_gateways_are_an_error_after_a_while() -> None:
    for elapsed_s, expected in ((5, "running"), (11, "error")):
        seen = evidence(account(), account(19_000), gateways=0, expected=2, elapsed_s=elapsed_s)
        assert verdict("latency", Guards(), CANARY, seen) == expected
    bad = evidence(account(0, failed=99), account(19_000), gateways=0, elapsed_s=60)
    assert verdict("error_rate", Guards(), CANARY, bad) == "fail", "harm that was seen stands"


def of(values: float, n: int) -> Moments:
    """Outcomes that are 0 or 1, with that mean."""
    return Moments(n=n, total=values * n, squares=values * n)


def clicks(mine: float, primary: float, n: int = 2000) -> dict[str, Outcomes]:
    return {"clicks": Outcomes(candidate=of(mine, n), primary=of(primary, n))}


def test_metric_guard_compares_means_and_knows_its_bound() -> None:
    guards = Guards(metrics=(MetricGuard(metric="clicks", max_loss=0.02, bound=0.1),))
    table = ((0.3, "pass"), (0.29, "pass"), (0.2, "fail"), (0.05, "fail"))
    for mine, expected in table:
        seen = evidence(account(), account(), outcomes=clicks(mine, 0.3))
        assert verdict("metric clicks", guards, CANARY, seen) == expected
    below = evidence(account(), account(), outcomes=clicks(0.05, 0.05))
    assert verdict("metric clicks", guards, CANARY, below) == "fail"
    nothing = evidence(account(), account(), outcomes=clicks(0.0, 0.0))
    assert verdict("metric clicks", guards, CANARY, nothing) == "fail"


def test_metric_that_is_better_when_lower_is_judged_the_other_way() -> None:
    guards = Guards(metrics=(MetricGuard(metric="clicks", goal=Goal.DECREASE, bound=0.4),))
    for mine, expected in ((0.2, "pass"), (0.4, "fail"), (0.5, "fail")):
        seen = evidence(account(), account(), outcomes=clicks(mine, 0.3))
        assert verdict("metric clicks", guards, CANARY, seen) == expected


def test_required_metric_without_outcomes_never_lets_a_candidate_be_promoted() -> None:
    required = Guards(metrics=(MetricGuard(metric="clicks"),))
    watching = Guards(metrics=(MetricGuard(metric="clicks", required=False),))
    none = evidence(account(), account())
    assert verdict("metric clicks", required, CANARY, none) == "running"
    assert verdict("metric clicks", watching, CANARY, none) is None
    assert verdict("metric clicks", required, SHADOW, none) is None
    last = msgspec.structs.replace(SHADOW, is_last=True)
    assert verdict("metric clicks", required, last, none) == "running"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_outcomes_that_are_no_numbers_are_an_error(value: float) -> None:
    bad = {"clicks": Outcomes(candidate=of(value, 2000), primary=of(0.3, 2000))}
    guards = Guards(metrics=(MetricGuard(metric="clicks"),))
    seen = evidence(account(), account(), outcomes=bad)
    assert verdict("metric clicks", guards, CANARY, seen) == "error"
    assert verdict("ab", guards, AB, seen) == "error"


AB = Setting(weight_pct=50, test=Ab(metric="clicks", max_s=100.0))


@pytest.mark.parametrize(
    ("mine", "n", "elapsed_s", "expected"),
    [
        (0.4, 2000, 9, "pass"),
        (0.2, 2000, 9, "fail"),
        (0.3, 2000, 9, "running"),
        (0.3, 2000, 101, "inconclusive"),
        (0.9, 50, 9, "running"),
        (0.9, 50, 101, "inconclusive"),
    ],
)
def test_ab_verdicts(mine: float, n: int, elapsed_s: float, expected: str) -> None:
    seen = evidence(account(), account(), outcomes=clicks(mine, 0.3, n), elapsed_s=elapsed_s)
    assert verdict("ab", Guards(), AB, seen) == expected


def test_ab_says_effect_and_interval() -> None:
    finding = said("ab", Guards(), AB, evidence(account(), account(), outcomes=clicks(0.4, 0.3)))
    assert finding is not None
    assert finding.message.startswith(
        "`clicks` is 0.4 of 2,000 outcomes against 0.3 of 2,000: 0.1 better, 95 % interval "
    )
    assert 0 < finding.numbers["low"] < finding.numbers["effect"] < finding.numbers["high"]


def test_ab_split_that_is_not_the_planned_one_is_an_error() -> None:
    table = ((5000, 5000, "pass"), (5200, 4800, "pass"), (6000, 4000, "error"), (12, 8, "pass"))
    for mine, primary, expected in table:
        seen = evidence(account(mine), account(primary), outcomes=clicks(0.4, 0.3))
        assert verdict("ab", Guards(), AB, seen) == expected


def test_switched_off_guards_say_nothing() -> None:
    off = Guards(
        error_rate=None, latency=None, shift=None, rejections=None, disagreement=None, crashes=None
    )
    assert judged(off, CANARY, evidence(account(0, failed=9), account())) == ()


def test_distance_beyond_is_not_enough_without_evidence() -> None:
    strict = Guards(shift=Shift(max_distance=0.01), min_requests=10)
    seen = evidence(
        Account(answered=20, labels={"a": 11, "b": 9}),
        Account(answered=380, labels={"a": 190, "b": 190}),
    )
    assert verdict("shift", strict, CANARY, seen) == "pass"


def test_harm_that_begins_late_is_not_lost_in_a_long_step() -> None:
    windows, day = Windows(), account(10_000_000)
    before = evidence(day, day, elapsed_s=86_401.0)
    assert verdict("error_rate", Guards(), CANARY, windows.seen(before)) == "pass"
    bad = account(10_000_000, failed=60)
    after = windows.seen(evidence(bad, account(10_000_060), elapsed_s=86_402.0))
    finding = said("error_rate", Guards(), CANARY, after)
    assert finding is not None
    assert (finding.verdict, finding.message[:30]) == ("fail", "In the last minute: Error rate")


def test_windows_begin_with_counts_of_their_own() -> None:
    windows = Windows()
    assert windows.seen(evidence(account(100), account(900), elapsed_s=59)).recent is None
    assert windows.seen(evidence(account(100), account(900), elapsed_s=61)).recent == since(
        evidence(account(), account()).step, evidence(account(), account()).step
    )
    later = windows.seen(evidence(account(130, failed=2), account(950), elapsed_s=70))
    assert later.window == 2
    assert later.recent is not None
    assert (later.recent.candidate.answered, later.recent.candidate.failed) == (30, 2)
    gone = windows.seen(evidence(account(10), account(9), elapsed_s=75)).recent
    assert gone is not None
    assert gone.candidate.answered == 0, "a gateway that is gone takes its counts along"


def test_without_a_primary_the_step_before_is_the_measure() -> None:
    before = account(900, failed=100, ms=10)
    preview = evidence(Account(), before).step
    labelled = msgspec.structs.replace(before, labels={"a": 900}, latency=before.latency)
    labels = evidence(Account(), labelled).step
    for failed, expected in ((100, "pass"), (200, "fail")):
        seen = evidence(account(1000 - failed, failed=failed), Account(), before=preview)
        assert verdict("error_rate", Guards(), BAKE, seen) == expected
    for mine, expected in ((14, "pass"), (30, "fail")):
        seen = evidence(account(ms=mine), Account(), before=preview)
        assert verdict("latency", Guards(), BAKE, seen) == expected
    for label, expected in (("a", "pass"), ("b", "fail")):
        mine_labelled = msgspec.structs.replace(account(1000), labels={label: 1000})
        seen = evidence(mine_labelled, Account(), before=labels)
        assert verdict("shift", Guards(), BAKE, seen) == expected


PLANS = st.sampled_from(
    [
        RolloutPlan(),
        RolloutPlan(stages=(Canary(hold_s=0.0, pause=True),), patience_s=0.0),
        RolloutPlan(stages=(BlueGreen(),)),
        RolloutPlan(stages=(Shadow(hold_s=1.0), Ab(metric="clicks"))),
    ]
)


@given(plan=PLANS, seen=evidences, step=st.integers(0, 1))
def test_decide_on_its_own_output_without_news_does_nothing(
    plan: RolloutPlan, seen: Evidence, step: int
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    versions = VersionRef(model="m", number=1), VersionRef(model="m", number=2)
    rollout = begun(plan, *versions, id="r", place=("dev", "m"), actor="me", now=begin)
    rollout = moved(rollout, Decision(event=Event.READY, message=""), begin)
    rollout = msgspec.structs.replace(rollout, step=step)
    decision = decide(rollout, seen)
    if decision is None:
        return
    after = moved(rollout, decision, begin)
    fresh = evidence(Account(), Account(), elapsed_s=0.0, exits=seen.exits)
    has_moved_on = after.epoch > rollout.epoch
    assert decide(after, fresh if has_moved_on else seen) is None


@given(plan=PLANS, seen=evidences, step=st.integers(0, 1))
def test_candidate_goes_on_only_when_every_guard_passes(
    plan: RolloutPlan, seen: Evidence, step: int
) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    versions = VersionRef(model="m", number=1), VersionRef(model="m", number=2)
    rollout = begun(plan, *versions, id="r", place=("dev", "m"), actor="me", now=begin)
    rollout = moved(rollout, Decision(event=Event.READY, message=""), begin)
    rollout = msgspec.structs.replace(rollout, step=step)
    decision = decide(rollout, seen)
    if decision is not None and decision.event in (Event.ADVANCE, Event.FINISH):
        assert {one.verdict for one in decision.findings} <= {Verdict.PASS}
