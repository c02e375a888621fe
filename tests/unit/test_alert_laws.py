"""The laws of alerts: told once of each transition, silent in silences, never resolved by silence of a measure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from shipway.core.alerts.deciding import (
    ENDS,
    MOST_DOUBLINGS,
    REOPEN_S,
    Handling,
    decide,
    hold_s,
)
from shipway.core.alerts.defaults import DEFAULT_RULES
from shipway.core.alerts.lifecycle import (
    FIRES,
    TRANSITIONS,
    Alert,
    Event,
    Key,
    Phase,
    moved,
)
from shipway.core.alerts.plan import AlertPlan, Deed, Mode, Notify, Reaction
from shipway.core.alerts.reacting import FRESH_S, reactions_to, refusal_of, untimely
from shipway.core.alerts.silences import Silence
from shipway.core.budgets import Budget, Period, spending
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.endpoints import Phase as EndpointPhase
from shipway.core.errors import ConflictError
from shipway.core.rollouts import Rollout, RolloutPhase
from shipway.core.signals import Severity, Signal
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OPS, BOSS = Notify(channel="ops"), Notify(channel="boss", after_s=600.0)
PAGER = Notify(channel="pager", at_least=Severity.CRITICAL)
PLAIN = Handling(hold_s=60.0, stale_s=3600.0, notify=(OPS, BOSS), version="churn:2")
KEY = Key("dev", "churn", "error-rate", "")
replace = msgspec.structs.replace


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def signal(seconds, *, firing=True, severity=Severity.WARNING, **fields):
    facts = {"environment": "dev", "endpoint": "churn", "rule": "error-rate"}
    return Signal(**(facts | fields), at=at(seconds), is_firing=firing, severity=severity)


class World:
    """Alerts in virtual time."""

    def __init__(self, handling=PLAIN):
        self.handling = handling
        self.alerts = {}
        self.silences = []
        self.notices = []
        self.fired = []

    def hear(self, seconds, *signals):
        outcome = decide(
            self.alerts,
            signals,
            at(seconds),
            handling_of=lambda _: self.handling,
            silences=self.silences,
        )
        self.alerts |= {alert.key: alert for alert in outcome.changed}
        self.notices += outcome.notices
        self.fired += outcome.fired
        return outcome

    @property
    def alert(self) -> Alert:
        return self.alerts[KEY]

    @property
    def told(self):
        return [(notice.event, notice.channels) for notice in self.notices]


def silence(until_s, **fields):
    facts = {"id": "s", "environment": "dev", "endpoint": "churn", "reason": "work", "by": "ada"}
    return Silence(**(facts | fields), at=NOW, until=at(until_s))


def test_a_rule_that_holds_fires_is_told_and_resolves_after_its_hold():
    world = World()
    world.hear(0, signal(0))
    assert world.alert.phase is Phase.FIRING
    world.hear(10, signal(10, firing=False))
    assert world.alert.phase is Phase.FIRING
    world.hear(69)
    assert world.alert.phase is Phase.FIRING
    world.hear(70)
    assert world.alert.phase is Phase.RESOLVED
    assert world.told == [(Event.SUSTAIN, ("ops",)), (Event.CLEAR, ("ops",))]


def test_it_fires_only_once_the_evidence_has_lasted():
    world = World(replace(PLAIN, for_s=30.0))
    world.hear(0, signal(0))
    world.hear(20, signal(20))
    world.hear(300)  # time alone is no evidence
    assert world.alert.phase is Phase.PENDING
    world.hear(301, signal(301))
    assert world.alert.phase is Phase.FIRING


@pytest.mark.parametrize("for_s", [0.0, 30.0])
def test_evidence_that_comes_late_counts_by_its_own_time(for_s):
    world = World(replace(PLAIN, for_s=for_s))
    world.hear(100, signal(60))
    world.hear(101, signal(90))
    assert world.alert.phase is Phase.FIRING


def test_what_ends_while_pending_is_never_told():
    world = World(replace(PLAIN, for_s=30.0))
    world.hear(0, signal(0))
    world.hear(10, signal(10, firing=False))
    assert world.alert.phase is Phase.RESOLVED
    assert world.told == []


def test_a_forecast_that_wavers_about_the_budget_is_told_once():
    rule = next(one for one in DEFAULT_RULES if one.name == "budget")
    world = World(replace(PLAIN, hold_s=rule.hold_s, notify=(OPS,)))
    budget, verdicts = Budget(amount=24.0, per=Period.DAY), set()
    for minute in range(120, 1080):
        pace = 1.01 if minute // 20 % 2 else 0.99
        found = spending(budget, pace * minute / 60, at(60 * minute), currency="USD")
        verdicts.add(found.severity)
        world.hear(60 * minute, signal(60 * minute, firing=found.severity is not None))
    assert verdicts == {None, Severity.WARNING}
    assert world.told == [(Event.SUSTAIN, ("ops",))]


def test_a_measure_that_falls_silent_does_not_resolve_before_it_is_stale():
    world = World()
    world.hear(0, signal(0))
    world.hear(3599)
    assert world.alert.phase is Phase.FIRING
    world.hear(3601)
    assert world.alert.phase is Phase.RESOLVED
    assert world.told[-1] == (Event.EXPIRE, ("ops", "boss"))


def test_what_comes_back_is_the_same_alert_and_later_a_new_one():
    world = World(replace(PLAIN, hold_s=0.0))
    world.hear(0, signal(0))
    first = world.alert.id
    world.hear(1, signal(1, firing=False))
    world.hear(100, signal(100))
    assert (world.alert.id, world.alert.firings) == (first, 2)
    world.hear(101, signal(101, firing=False))
    later = 102 + REOPEN_S
    world.hear(later, signal(later))
    assert world.alert.id != first
    assert world.alert.firings == 1


def test_one_that_comes_and_goes_is_resolved_later_each_time():
    alert = replace(fired_alert(), firings=1)
    holds = [hold_s(replace(alert, firings=n), PLAIN) for n in (1, 2, 3, 99)]
    assert holds == [60.0, 120.0, 240.0, 60.0 * 2**MOST_DOUBLINGS]


def fired_alert():
    world = World()
    world.hear(0, signal(0))
    return world.alert


def test_evidence_that_comes_back_within_the_hold_resolves_nothing():
    world = World()
    world.hear(0, signal(0))
    for second in range(10, 400, 20):
        world.hear(second, signal(second, firing=False))
        world.hear(second + 10, signal(second + 10))
    assert world.told == [(Event.SUSTAIN, ("ops",))]


def test_a_silence_suppresses_the_message_and_not_the_state():
    world = World()
    world.silences = [silence(100, rule="error-*")]
    world.hear(0, signal(0))
    assert world.alert.phase is Phase.FIRING
    assert world.told == []
    world.hear(99)
    assert world.told == []
    world.hear(100)
    assert world.told == [(Event.SUSTAIN, ("ops",))]


def test_of_what_came_and_went_in_a_silence_nobody_is_told():
    world = World(replace(PLAIN, hold_s=0.0))
    world.silences = [silence(100)]
    world.hear(0, signal(0))
    world.hear(10, signal(10, firing=False))
    assert world.alert.phase is Phase.RESOLVED
    world.hear(200)
    assert world.told == []


def test_who_was_told_before_a_silence_learns_of_the_end_after_it():
    world = World(replace(PLAIN, hold_s=0.0))
    world.hear(0, signal(0))
    world.silences = [silence(100)]
    world.hear(10, signal(10, firing=False))
    assert world.told == [(Event.SUSTAIN, ("ops",))]
    world.hear(101)
    assert world.told[1:] == [(Event.CLEAR, ("ops",))]


@pytest.mark.parametrize(
    "other",
    [{"endpoint": "fraud"}, {"environment": "prod"}, {"rule": "drift*"}, {"subject": "churn:*"}],
)
def test_a_silence_of_something_else_silences_nothing(other):
    world = World()
    world.silences = [silence(100, **other)]
    world.hear(0, signal(0))
    assert world.told == [(Event.SUSTAIN, ("ops",))]


def test_what_nobody_acknowledges_escalates_once():
    world = World()
    world.hear(0, signal(0))
    world.hear(599, signal(599))
    world.hear(600, signal(600))
    world.hear(1200, signal(1200))
    assert world.told == [(Event.SUSTAIN, ("ops",)), (Event.ESCALATE, ("boss",))]


def test_what_is_acknowledged_does_not_escalate():
    world = World()
    world.hear(0, signal(0))
    world.alerts[KEY] = moved(world.alert, Event.ACKNOWLEDGE, at(5), by="ada")
    world.hear(700, signal(700))
    assert world.told == [(Event.SUSTAIN, ("ops",))]


def test_the_end_is_told_to_everybody_who_was_told_of_it():
    world = World(replace(PLAIN, hold_s=0.0))
    world.hear(0, signal(0))
    world.hear(600, signal(600))
    world.hear(601, signal(601, firing=False))
    assert world.told[-1] == (Event.CLEAR, ("ops", "boss"))


def test_what_gets_worse_is_told_again_and_undoes_an_acknowledgement():
    world = World()
    world.hear(0, signal(0))
    world.alerts[KEY] = moved(world.alert, Event.ACKNOWLEDGE, at(5), by="ada")
    world.hear(10, signal(10, severity=Severity.CRITICAL))
    assert world.alert.phase is Phase.FIRING
    assert world.alert.severity is Severity.CRITICAL
    world.hear(20, signal(20, severity=Severity.WARNING))
    assert [event for event, _ in world.told] == [Event.SUSTAIN, Event.WORSEN]


def test_who_was_told_learns_of_the_end_though_it_is_less_severe_by_then():
    world = World(replace(PLAIN, hold_s=0.0, notify=(OPS, PAGER)))
    world.hear(0, signal(0, severity=Severity.CRITICAL))
    world.hear(10, signal(10))
    world.hear(20, signal(20, firing=False))
    assert world.told == [(Event.SUSTAIN, ("ops", "pager")), (Event.CLEAR, ("ops", "pager"))]


def test_who_was_told_learns_of_the_end_when_the_rule_is_off_or_others_are_told_by_then():
    for now in (None, replace(PLAIN, notify=(PAGER,))):
        world = World()
        world.hear(0, signal(0))
        world.handling = now
        world.hear(10, signal(10, firing=False))
        world.hear(100)
        assert [channels for _, channels in world.told] == [("ops",), ("ops",)]


def test_who_was_told_learns_of_the_end_of_what_came_and_went_in_a_silence_again():
    world = World(replace(PLAIN, hold_s=0.0))
    world.hear(0, signal(0))
    world.silences = [silence(100)]
    world.hear(10, signal(10, firing=False))
    world.hear(20, signal(20))
    world.hear(30, signal(30, firing=False))
    assert world.alert.firings == 2
    world.hear(100)
    assert world.told == [(Event.SUSTAIN, ("ops",)), (Event.CLEAR, ("ops",))]


def test_of_whose_end_people_were_not_told_is_the_same_alert_when_it_comes_back_much_later():
    world = World(replace(PLAIN, hold_s=0.0))
    world.hear(0, signal(0))
    first = world.alert.id
    later = 20 + REOPEN_S
    world.silences = [silence(later + 1)]
    world.hear(10, signal(10, firing=False))
    world.hear(later, signal(later))
    world.hear(later + 2, signal(later + 2, firing=False))
    assert world.alert.id == first
    assert world.told == [(Event.SUSTAIN, ("ops",)), (Event.CLEAR, ("ops",))]


def test_a_channel_hears_only_what_is_severe_enough():
    world = World(replace(PLAIN, notify=(OPS, PAGER)))
    world.hear(0, signal(0))
    world.hear(10, signal(10, severity=Severity.CRITICAL))
    assert world.told == [(Event.SUSTAIN, ("ops",)), (Event.WORSEN, ("ops", "pager"))]


def test_the_declared_severity_is_the_one_that_counts():
    world = World(replace(PLAIN, severity=Severity.INFO))
    world.hear(0, signal(0, severity=Severity.CRITICAL))
    assert world.alert.severity is Severity.INFO


def test_an_alert_whose_rule_is_off_ends():
    world = World()
    world.hear(0, signal(0))
    world.handling = None
    world.hear(10, signal(10))
    assert world.alert.phase is Phase.RESOLVED
    world.hear(20, signal(20))
    assert world.alert.phase is Phase.RESOLVED


def test_what_a_person_resolved_comes_back_with_the_next_evidence():
    world = World()
    world.hear(0, signal(0))
    world.alerts[KEY] = moved(world.alert, Event.RESOLVE, at(5), by="ada")
    world.hear(6)
    assert world.told[-1] == (Event.RESOLVE, ("ops",))
    world.hear(10, signal(10))
    assert world.alert.phase is Phase.FIRING
    assert world.alert.firings == 2


def test_trouble_since_earlier_keeps_its_beginning():
    world = World()
    world.hear(10, signal(10, since=at(-500)))
    assert world.alert.since == at(-500)


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("event", list(Event))
def test_whatever_is_not_in_the_table_is_refused(phase, event):
    alert = replace(fired_alert(), phase=phase)
    if (phase, event) in TRANSITIONS:
        assert moved(alert, event, NOW).phase is TRANSITIONS[phase, event]
    else:
        with pytest.raises(ConflictError):
            moved(alert, event, NOW)


signals = st.builds(
    lambda second, firing, severity, subject: signal(
        second, firing=firing, severity=severity, subject=subject
    ),
    st.integers(0, 5000),
    st.booleans(),
    st.sampled_from(list(Severity)),
    st.sampled_from(["", "age", "income"]),
)


class Alerts(RuleBasedStateMachine):
    """Any signals in any order, people's words, silences, and time."""

    @initialize(
        for_s=st.sampled_from([0.0, 30.0]),
        hold=st.sampled_from([0.0, 60.0]),
    )
    def begin(self, for_s, hold):
        self.handling = replace(PLAIN, for_s=for_s, hold_s=hold, notify=(OPS, PAGER, BOSS))
        self.world = World(self.handling)
        self.knows = {}
        self.second = 0
        self.firings = 0
        self.told = []

    @rule(some=st.lists(signals, max_size=4), passes=st.integers(0, 900))
    def hear(self, some, passes):
        self.second += passes
        mine = [replace(one, at=at(self.second - i)) for i, one in enumerate(some)]
        before = dict(self.world.alerts)
        again = decide(
            before, mine, at(self.second), handling_of=lambda _: self.world.handling,
            silences=self.world.silences,
        )  # fmt: skip
        outcome = self.world.hear(self.second, *mine)
        assert outcome == again, "the same question, another answer"
        for notice in outcome.notices:
            assert not any(s.covers(notice.alert, at(self.second)) for s in self.world.silences)
            self.note(notice)
        for key, after in self.world.alerts.items():
            was = before.get(key)
            if after.phase is Phase.RESOLVED and was is not None and was.phase in FIRES:
                self.require_reason(was, mine)
        repeated = self.world.hear(self.second, *mine)
        assert repeated.changed == repeated.notices == repeated.fired == (), "told without news"

    def require_reason(self, was, mine):
        """Nothing resolves by itself but for a clear signal, or because it is stale."""
        if self.world.handling is None:
            return
        is_clear = was.clear_since is not None or any(not one.is_firing for one in mine)
        is_stale = (at(self.second) - was.heard_at).total_seconds() > self.world.handling.stale_s
        assert is_clear or is_stale

    def note(self, notice):
        """Of each alert: fires, perhaps worse or escalated, ends; never the same twice in a row.

        Whoever hears that it fires hears that it ends, and nobody else does.
        """
        order = {Event.SUSTAIN: 0, Event.WORSEN: 1, Event.ESCALATE: 1}
        firing = (notice.alert.id, notice.alert.firings)
        mine = [event for told, event in self.told if told == firing]
        if notice.event is Event.SUSTAIN:
            assert Event.SUSTAIN not in mine
        elif notice.event in order:
            assert Event.SUSTAIN in mine
        else:
            assert not set(mine) & ENDS
            assert set(notice.channels) == self.knows.pop(notice.alert.id)
        if notice.event is Event.ESCALATE:
            assert Event.ESCALATE not in mine
        if notice.event not in ENDS:
            self.knows.setdefault(notice.alert.id, set()).update(notice.channels)
        self.told.append((firing, notice.event))

    @rule(event=st.sampled_from([Event.ACKNOWLEDGE, Event.RESOLVE]), data=st.data())
    def say(self, event, data):
        if not self.world.alerts:
            return
        key = data.draw(st.sampled_from(sorted(self.world.alerts)))
        alert = self.world.alerts[key]
        if (alert.phase, event) in TRANSITIONS:
            self.world.alerts[key] = moved(alert, event, at(self.second), by="ada")

    @rule(handling=st.sampled_from([None, (OPS,), (OPS, PAGER, BOSS)]))
    def declare(self, handling):
        """The rule is switched off, or somebody else is told."""
        if handling is None:
            self.world.handling = None
        else:
            self.world.handling = replace(self.handling, notify=handling)

    @rule()
    def say_all(self):
        """Without a silence, who was told that an alert fires has been told of its end, if it has ended."""
        self.world.silences = []
        self.hear([], 0)
        for alert in self.world.alerts.values():
            if alert.phase is Phase.RESOLVED:
                assert alert.id not in self.knows

    @rule(lasts=st.integers(1, 2000), subject=st.sampled_from(["*", "age"]))
    def silence(self, lasts, subject):
        self.world.silences.append(silence(self.second + lasts, subject=subject))

    @invariant()
    def there_is_one_alert_of_a_key(self):
        world = getattr(self, "world", None)
        for key, alert in world.alerts.items() if world else ():
            assert alert.key == key
            assert alert.fires == (alert.phase in FIRES)


TestAlerts = Alerts.TestCase
TestAlerts.settings = settings(max_examples=80, stateful_step_count=20, deadline=None)


# What is done


def reaction(**fields):
    return Reaction(**({"when": "error-rate", "do": Deed.ROLLBACK, "mode": Mode.DO} | fields))


@pytest.mark.parametrize(
    ("on", "rule_name", "severity", "matches"),
    [
        ("error-rate", "error-rate", Severity.WARNING, True),
        ("drift", "drift:hourly", Severity.WARNING, True),
        ("critical", "anything", Severity.CRITICAL, True),
        ("critical", "anything", Severity.WARNING, False),
        ("drift", "drifting", Severity.WARNING, False),
    ],
)
def test_an_action_is_for_a_rule_a_kind_or_a_severity(on, rule_name, severity, matches):
    alert = replace(fired_alert(), rule=rule_name, severity=severity)
    found = reactions_to(alert, AlertPlan(actions=(reaction(when=on),)))
    assert bool(found) == matches


def test_a_deed_is_done_once_though_two_declarations_match():
    plan = AlertPlan(actions=(reaction(), reaction(when="warning", mode=Mode.SUGGEST)))
    assert reactions_to(fired_alert(), plan) == (reaction(),)


def test_the_default_is_to_suggest():
    assert Reaction(when="drift", do=Deed.PAUSE).mode is Mode.SUGGEST
    assert refusal_of(reaction(mode=Mode.SUGGEST), fired_alert(), [], NOW)


@given(st.lists(st.floats(-7200, 7200), max_size=5), st.integers(1, 3), st.floats(60, 7200))
def test_no_more_is_done_than_its_limit_allows(ages, most, per_s):
    done = [NOW - timedelta(seconds=age) for age in ages]
    refusal = refusal_of(reaction(most=most, per_s=per_s), fired_alert(), done, NOW)
    assert bool(refusal) == (sum(abs(NOW - d) < timedelta(seconds=per_s) for d in done) >= most)


def test_nothing_is_done_by_evidence_that_is_old():
    alert = fired_alert()
    assert not refusal_of(reaction(), alert, [], at(FRESH_S))
    assert refusal_of(reaction(), alert, [], at(FRESH_S + 1))


def test_what_gets_worse_is_acted_upon_too():
    world = World()
    world.hear(0, signal(0))
    world.hear(10, signal(10, severity=Severity.CRITICAL))
    assert [alert.severity for alert in world.fired] == [Severity.WARNING, Severity.CRITICAL]


def test_an_alert_is_about_the_version_that_served_when_it_was_raised():
    world = World()
    world.hear(0, signal(0))
    world.handling = replace(PLAIN, version="churn:3")
    world.hear(10, signal(10))
    assert world.alert.version == "churn:2"
    world.hear(20, signal(20, firing=False))
    world.hear(90)
    world.hear(100, signal(100))
    assert (world.alert.phase, world.alert.version) == (Phase.FIRING, "churn:3")


def test_an_alert_does_not_go_deaf_when_a_clock_is_set_back():
    world = World()
    world.hear(10_000, signal(10_000))
    world.hear(0, signal(0, firing=False))
    world.hear(61)
    assert world.alert.phase is Phase.RESOLVED


AHEAD = 365 * 86400


def test_an_alert_fires_in_time_though_a_clock_ran_ahead_when_it_was_raised():
    world = World(replace(PLAIN, for_s=30.0))
    world.hear(AHEAD, signal(AHEAD))
    world.hear(0, signal(0))
    world.hear(10, signal(10))  # the second look by which the clock is right
    world.hear(39, signal(39))
    assert world.alert.phase is Phase.PENDING
    world.hear(40, signal(40))
    assert world.alert.phase is Phase.FIRING


def test_an_alert_ends_in_time_though_a_clock_ran_ahead_when_it_cleared():
    world = World()
    world.hear(0, signal(0))
    world.hear(AHEAD, signal(AHEAD, firing=False))
    world.hear(10, signal(10, firing=False))
    world.hear(20, signal(20, firing=False))
    world.hear(79, signal(79, firing=False))
    assert world.alert.phase is Phase.FIRING
    world.hear(80, signal(80, firing=False))
    assert world.alert.phase is Phase.RESOLVED


def test_an_alert_escalates_in_time_though_a_clock_ran_ahead_when_it_was_told():
    world = World()
    world.hear(AHEAD, signal(AHEAD))
    world.hear(0, signal(0))
    world.hear(10, signal(10))
    world.hear(609, signal(609))
    assert world.told == [(Event.SUSTAIN, ("ops",))]
    world.hear(610, signal(610))
    assert world.told[1:] == [(Event.ESCALATE, ("boss",))]


def test_a_clock_that_is_behind_for_one_look_fires_nothing_before_its_time():
    world = World(replace(PLAIN, for_s=30.0))
    world.hear(0, signal(0))
    world.hear(-AHEAD, signal(-AHEAD))
    world.hear(20, signal(20))
    assert world.alert.phase is Phase.PENDING
    world.hear(30, signal(30))
    assert world.alert.phase is Phase.FIRING


def test_a_clock_that_is_behind_for_one_look_ends_nothing_before_its_time():
    world = World()
    world.hear(0, signal(0))
    world.hear(10, signal(10, firing=False))
    world.hear(-AHEAD, signal(-AHEAD, firing=False))
    world.hear(60, signal(60, firing=False))
    assert world.alert.phase is Phase.FIRING
    world.hear(70, signal(70, firing=False))
    assert world.alert.phase is Phase.RESOLVED


def test_a_clock_that_is_behind_for_one_look_escalates_nothing_before_its_time():
    world = World()
    world.hear(0, signal(0))
    world.hear(-AHEAD, signal(-AHEAD))
    world.hear(20, signal(20))
    assert world.told == [(Event.SUSTAIN, ("ops",))]
    world.hear(600, signal(600))
    assert world.told[1:] == [(Event.ESCALATE, ("boss",))]


@pytest.mark.parametrize(("ends_s", "channels"), [(500, ("ops",)), (700, ("ops", "boss"))])
def test_who_was_told_by_a_release_that_did_not_keep_it_is_told_of_the_end(ends_s, channels):
    world = World()
    world.hear(0, signal(0))
    world.alerts[KEY] = replace(world.alert, told=None)
    world.hear(ends_s, signal(ends_s, firing=False))
    world.hear(ends_s + 60)
    assert world.told[-1] == (Event.CLEAR, channels)


def test_what_a_release_that_did_not_keep_who_was_told_still_owed_is_told():
    world = World()
    world.hear(-1, signal(-1))
    world.silences = [silence(100)]
    world.hear(0, signal(0, firing=False))
    world.hear(61)
    assert (world.alert.phase, world.alert.owed) == (Phase.RESOLVED, Event.CLEAR)
    world.alerts[KEY] = replace(world.alert, told=None)
    world.hear(101)
    assert world.told[-1] == (Event.CLEAR, ("ops",))


V1, V2, V3 = (VersionRef("churn", number) for number in (1, 2, 3))
SERVING = EndpointState(
    spec=EndpointSpec(name="churn", model="churn:2"),
    generation=4,
    phase=EndpointPhase.LIVE,
    active=V2,
    previous=V1,
)
ROLLOUT = Rollout(
    id="r",
    endpoint="churn",
    environment="dev",
    plan=RolloutPlan(stages=(Canary(steps=(50,), hold_s=10),)),
    primary=V2,
    candidate=V3,
    phase=RolloutPhase.RUNNING,
    started_at=NOW,
    started_by="ada",
    since=NOW,
)


@pytest.mark.parametrize(
    ("state", "is_timely"),
    [
        (SERVING, True),
        (replace(SERVING, phase=EndpointPhase.RELEASING, target=V3, rollout=ROLLOUT), True),
        (replace(SERVING, phase=EndpointPhase.STARTING, target=V3), False),
        (replace(SERVING, active=V3, previous=V2), False),
        (replace(SERVING, active=V1, previous=V2, refused=V2), False),
        (replace(SERVING, previous=V3, refused=V3), False),
    ],
)
@pytest.mark.parametrize("deed", [Deed.ROLLBACK, Deed.PAUSE])
def test_a_rollback_undoes_only_what_the_alert_is_about(state, is_timely, deed):
    alert = fired_alert()
    assert alert.version == "churn:2"
    is_possible = deed is Deed.ROLLBACK or state.releasing is not None
    assert (untimely(deed, alert, state) == "") is (is_timely and is_possible)
    assert untimely(Deed.RETRAIN, alert, state) == ""
