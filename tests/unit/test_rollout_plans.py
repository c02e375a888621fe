"""The strategy options of `deploy` make plans that the server takes, or are refused with a reason."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.cli.plans import plan_of, steps_of
from shipway.core.errors import InvalidSpec
from shipway.core.positions import positions
from shipway.core.strategies import Ab, BlueGreen, Canary, Goal, RolloutPlan, Shadow

NONE = dict.fromkeys(("steps", "hold", "share", "metric", "goal", "weight", "bake")) | {
    "pause": False
}


def plan(*strategies, success=None, **options):
    made = plan_of(strategies, NONE | options, success=success)
    return None if made is None else msgspec.convert(made, RolloutPlan)


@pytest.mark.parametrize(
    ("strategies", "options", "stages"),
    [
        (["canary"], {}, (Canary(),)),
        (["canary"], {"steps": [5, 50], "hold": 0.0}, (Canary(steps=(5, 50), hold_s=0.0),)),
        (["canary"], {"pause": True}, (Canary(pause=True),)),
        (["blue_green"], {"bake": 0.0}, (BlueGreen(bake_s=0.0),)),
        (["blue-green"], {"hold": 9.0}, (BlueGreen(preview_s=9.0),)),
        (["shadow"], {"share": 20.0, "hold": 60.0}, (Shadow(share_pct=20.0, hold_s=60.0),)),
        (
            ["ab"],
            {"metric": "sold", "goal": "decrease", "weight": 20},
            (Ab(metric="sold", goal=Goal.DECREASE, weight_pct=20),),
        ),
        (["shadow", "canary"], {"hold": 5.0}, (Shadow(hold_s=5.0), Canary(hold_s=5.0))),
        (["none"], {}, ()),
    ],
)
def test_options_become_the_stages_that_take_them(strategies, options, stages):
    assert plan(*strategies, **options).stages == stages


def test_without_a_strategy_the_endpoint_keeps_its_plan():
    assert plan() is None


def test_all_at_once_is_a_plan_without_a_step():
    assert positions(plan("none")) == ()


def test_guards_are_left_to_the_endpoint():
    assert "guards" not in plan_of(["canary"], NONE, success=None)


def test_the_reason_of_an_earlier_change_is_not_the_reason_of_this_one():
    assert plan_of(["canary"], NONE, success=None)["success"] == ""
    assert plan("canary", success="fewer alarms").success == "fewer alarms"


@pytest.mark.parametrize(
    ("strategies", "options", "said"),
    [
        (["canry"], {}, "`canry` is not a strategy"),
        (["none", "canary"], {}, "all at once"),
        (["none"], {"hold": 1.0}, "--hold"),
        ([], {"steps": [5]}, "`--steps` belongs to `canary`"),
        ([], {"bake": 0.0}, "`--bake` belongs to `blue_green`"),
        ([], {"success": "x"}, "--success"),
        (["canary"], {"metric": "sold"}, "`--metric` belongs to `ab`"),
        (["shadow", "canary"], {"bake": 1.0}, "--bake"),
        (["ab"], {}, "needs the metric"),
    ],
)
def test_what_no_stage_takes_is_refused_by_name(strategies, options, said):
    with pytest.raises(InvalidSpec, match=re.escape(said)):
        plan(*strategies, **options)


@given(st.lists(st.integers(-5, 200), min_size=1))
def test_any_list_of_shares_is_read_as_it_is_written(shares):
    assert steps_of(",".join(str(share) for share in shares)) == shares
    assert steps_of(", ".join(f"{share}%" for share in shares)) == shares


@pytest.mark.parametrize("text", ["", "5;25", "five", "5,,25", "5.5"])
def test_what_is_no_list_of_shares_is_refused(text):
    with pytest.raises(InvalidSpec, match="not a list of shares"):
        steps_of(text)
