"""How a gateway judges whether a model's calls are short."""

from shipway.gateway.runners import RowCost


def test_one_slow_call_on_a_busy_machine_does_not_make_a_model_slow():
    cost = RowCost()
    for call in range(100):
        cost.note(0.5 if call % 10 == 3 else 0.001)
        assert cost.row_s == 0.001


def test_model_that_became_slow_is_noticed_within_32_calls():
    cost = RowCost()
    for row_s in [0.001] * 20 + [0.1] * 32:
        cost.note(row_s)
    assert cost.row_s == 0.1
