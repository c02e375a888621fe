"""Which traces count as slow."""

import random

import pytest

from shipway.core.sampling import SLOW_SHARE, SlowLine


def share_over(line, drawn, count=20_000):
    return sum(line.is_slow(drawn()) for _ in range(count)) / count


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["exponential", "lognormal", "constant-ish"])
def test_about_the_slowest_hundredth_is_slow(kind, seed):
    chance = random.Random(seed)
    drawn = {
        "exponential": lambda: chance.expovariate(100),
        "lognormal": lambda: 0.02 * chance.lognormvariate(0, 1),
        "constant-ish": lambda: 0.005 + chance.random() * 1e-4,
    }[kind]
    line = SlowLine()
    share_over(line, drawn, 2000)
    assert SLOW_SHARE / 3 < share_over(line, drawn) < SLOW_SHARE * 2


def test_nothing_is_slow_before_it_is_known_what_is_usual():
    line = SlowLine(learns_from=200)
    assert not any(line.is_slow(10.0**power) for power in range(-3, 3) for _ in range(33))


@pytest.mark.parametrize("factor", [20.0, 0.05])
def test_line_follows_an_endpoint_that_becomes_another(factor):
    chance = random.Random(1)
    line = SlowLine()
    share_over(line, lambda: chance.expovariate(100), 3000)
    share_over(line, lambda: factor * chance.expovariate(100), 30_000)
    share = share_over(line, lambda: factor * chance.expovariate(100))
    assert SLOW_SHARE / 3 < share < SLOW_SHARE * 2
