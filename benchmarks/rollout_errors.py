"""How often rollouts decide wrongly, and how soon rightly: simulated traffic through the real decisions.

    python benchmarks/rollout_errors.py --runs 2000 --write

Each rollout is begun, decided upon every half second by `core.rollouts.decide`, and moved by `moved`, until
it ends or pauses. Time is simulated, so default hold times cost nothing. `--write` puts the tables
into docs/explanation/how-releases-decide.md. Exits with 1 when a claim fails. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rollout_runs import USUAL, Case, Row, Trial, simulated
from rollout_traffic import Behaviour, World
from shipway.core.rollouts import RolloutPhase
from shipway.core.strategies import BlueGreen, RolloutPlan, Shadow

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "how-releases-decide.md"
BEGIN, END = "<!-- rollout-errors: begin -->", "<!-- rollout-errors: end -->"
MOST_FALSE, MOST_MISSED, MOST_FALSE_AB = 0.01, 0.05, 0.05
SHADOW = RolloutPlan(stages=(Shadow(),))
BLUE_GREEN = RolloutPlan(stages=(BlueGreen(),))
PROMOTED, ROLLED_BACK, PAUSED = RolloutPhase.PROMOTED, RolloutPhase.ROLLED_BACK, RolloutPhase.PAUSED


class Options(argparse.Namespace):
    runs: int
    processes: int
    write: bool


def equal_cases(runs: int, fewer: int) -> Iterable[Case]:
    for rate, errors, count in (
        (300, 0.001, runs),
        (300, 0.0, fewer),
        (300, 0.01, fewer),
        (300, 0.05, fewer),
        (50, 0.001, fewer),
        (50, 0.05, fewer),
        (2000, 0.001, fewer),
        (2000, 0.05, fewer),
    ):
        yield _equal(f"canary, {100 * errors:g} % errors", count, rate, errors)
    yield replace(_equal("shadow, 1 % errors", fewer, 50, 0.01), plan=SHADOW)
    yield replace(_equal("blue-green, 0.1 % errors", fewer, 50, 0.001), plan=BLUE_GREEN)
    world = World(rate_per_s=50, callers=10_000)
    yield replace(_equal("canary, 10,000 sticky callers", 3 * runs // 4, 50, 0.01), world=world)


def _equal(name: str, runs: int, rate: float, errors: float) -> Case:
    behaviour = Behaviour(errors=errors)
    world = World(rate_per_s=rate)
    return Case(name=name, runs=runs, world=world, primary=behaviour, candidate=behaviour)


def limit_cases(runs: int) -> Iterable[Case]:
    """What is hard, and what the guards do not promise."""
    world = World(rate_per_s=50, callers=200)
    yield replace(_equal("equal, 200 sticky callers of unlike kinds", runs, 50, 0.01), world=world)
    world = World(rate_per_s=300, stalls_per_s=1 / 20)
    yield replace(
        _equal("equal, each stalls 1 s three times a minute", runs, 300, 0.01), world=world
    )
    yield replace(_equal("equal, blue-green, 2 % errors", runs, 50, 0.02), plan=BLUE_GREEN)
    unseen = RolloutPlan(stages=(BlueGreen(preview_s=0.0),))
    name = "equal, blue-green without preview, 2 % errors"
    yield replace(_equal(name, runs, 50, 0.02), plan=unseen)
    for name, worse in (
        ("errors +0.5 points (1 is let pass)", replace(USUAL, errors=0.006)),
        ("latency x1.4 (1.5 is let pass)", replace(USUAL, median_s=0.028)),
        ("labels 0.15 apart (0.2 is let pass)", replace(USUAL, labels=(0.45, 0.3, 0.25))),
    ):
        yield Case(name=name, runs=runs, candidate=worse)


def worse_cases(runs: int) -> Iterable[Case]:
    for name, worse in (
        ("errors +2 points", replace(USUAL, errors=0.021)),
        ("errors +5 points", replace(USUAL, errors=0.051)),
        ("errors +20 points", replace(USUAL, errors=0.201)),
        ("every request fails", replace(USUAL, errors=1.0)),
        ("5 % time out", replace(USUAL, timeouts=0.05)),
        ("latency x2", replace(USUAL, median_s=0.04)),
        ("latency x5", replace(USUAL, median_s=0.1)),
        ("20 % are 10 times as slow", replace(USUAL, slow_share=0.2)),
        ("labels 0.3 apart", replace(USUAL, labels=(0.3, 0.3, 0.4))),
        ("labels 0.6 apart", replace(USUAL, labels=(0.0, 0.4, 0.6))),
        ("scores 0.26 apart", replace(USUAL, score=1.0)),
        ("scores 0.5 apart", replace(USUAL, score=2.0)),
        ("refuses 5 %", replace(USUAL, rejected=0.05)),
        ("refuses all", replace(USUAL, rejected=1.0)),
    ):
        for rate in (50, 300):
            yield Case(name=name, runs=runs, world=World(rate_per_s=rate), candidate=worse)
    disagreeing = replace(USUAL, agreement=0.8)
    world = World(rate_per_s=50)
    yield Case(
        name="shadow: 20 % answered otherwise",
        runs=runs,
        world=world,
        plan=SHADOW,
        candidate=disagreeing,
    )


def ab_trials(runs: int, fewer: int) -> Iterable[Trial]:
    yield Trial(name="2 % in both", runs=runs, primary=0.02, candidate=0.02)
    yield Trial(name="20 % in both", runs=runs)
    yield Trial(name="20 % in both, candidate has 10 %", runs=runs, weight_pct=10)
    yield Trial(
        name="2 % in both, candidate has 10 %",
        runs=runs,
        primary=0.02,
        candidate=0.02,
        weight_pct=10,
    )
    yield Trial(name="normal, equal", runs=runs, kind="normal", primary=1, candidate=1)
    yield Trial(name="log-normal, equal", runs=runs, kind="heavy", primary=1, candidate=1)
    yield Trial(name="2 % against 3 %", runs=fewer, primary=0.02, candidate=0.03)
    yield Trial(name="20 % against 22 %", runs=fewer, candidate=0.22)
    yield Trial(name="20 % against 18 %", runs=fewer, candidate=0.18)
    yield Trial(
        name="normal, 0.1 deviations more", runs=fewer, kind="normal", primary=1, candidate=1.1
    )


def table(heads: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    rows = [heads, ["---"] * len(heads), *lines]
    return [f"| {' | '.join(row)} |" for row in rows]


def of_equals(rows: Sequence[Row]) -> list[str]:
    heads = (
        "what",
        "requests/s",
        "rollouts",
        "rolled back (95 % interval)",
        "by",
        "paused",
        "longest",
    )
    return table(
        heads,
        (
            (
                row.case.name,
                f"{row.case.world.rate_per_s:,.0f}",
                f"{len(row.endings):,}",
                row.words(ROLLED_BACK),
                ", ".join(sorted({one.guard for one in row.endings if one.guard})),
                f"{row.count(PAUSED)}",
                f"{max(one.seconds for one in row.endings):.0f} s",
            )
            for row in rows
        ),
    )


def of_worse(rows: Sequence[Row]) -> list[str]:
    heads = (
        "what is worse",
        "requests/s",
        "missed (95 % interval)",
        "guard",
        "seconds until caught: median, p95",
        "candidate's requests until then: median, p95",
    )
    return table(heads, (_worse(row) for row in rows))


def _worse(row: Row) -> Sequence[str]:
    caught = [one for one in row.endings if one.phase is ROLLED_BACK]
    guards = Counter(one.guard for one in caught).most_common(1)
    return (
        row.case.name,
        f"{row.case.world.rate_per_s:,.0f}",
        row.words(PROMOTED, PAUSED),
        guards[0][0] if guards else "",
        _middle_and_tail([one.seconds for one in caught]),
        _middle_and_tail([one.exposed for one in caught]),
    )


def of_tests(rows: Sequence[Row]) -> list[str]:
    heads = (
        "outcomes",
        "tests",
        "called better (95 % interval)",
        "called worse (95 % interval)",
        "candidate's outcomes until the verdict: median, p95",
    )
    return table(
        heads,
        (
            (
                row.case.name,
                f"{len(row.endings):,}",
                row.words(PROMOTED),
                row.words(ROLLED_BACK),
                _middle_and_tail([one.exposed for one in row.endings if one.phase is not PAUSED]),
            )
            for row in rows
        ),
    )


def _middle_and_tail(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle, tail = np.quantile(values, [0.5, 0.95])
    return f"{middle:,.1f}, {tail:,.1f}" if tail < 10 else f"{middle:,.0f}, {tail:,.0f}"


def broken(equals: Sequence[Row], worse: Sequence[Row], tests: Sequence[Row]) -> list[str]:
    """The claims that do not hold."""
    found = [(row, row.share(ROLLED_BACK), MOST_FALSE) for row in equals]
    found += [(row, row.share(PROMOTED, PAUSED), MOST_MISSED) for row in worse]
    found += [
        (row, row.share(PROMOTED, ROLLED_BACK), MOST_FALSE_AB)
        for row in tests
        if isinstance(row.case, Trial) and row.case.primary == row.case.candidate
    ]
    return [
        f"{row.case.name}: {share:.2%}, not {most:.0%}"
        for row, share, most in found
        if share > most
    ]


def main(options: Options) -> int:
    runs, fewer, few = options.runs, max(options.runs // 8, 1), max(options.runs // 20, 1)
    kinds = (
        list(equal_cases(runs, fewer)),
        list(worse_cases(few)),
        list(limit_cases(few)),
        list(ab_trials(runs // 2, fewer)),
    )
    rows = iter(simulated([case for kind in kinds for case in kind], options.processes))
    equals, worse, limits, tests = ([next(rows) for _ in kind] for kind in kinds)
    text = "\n".join(
        [
            f"`make rollout-errors` made these tables, with `--runs {runs}`.",
            "\n### Equal candidates\n",
            *of_equals(equals),
            "\n### Worse candidates\n",
            *of_worse(worse),
            "\n### At the limits\n",
            *of_equals(limits),
            "\n### A/B tests\n",
            *of_tests(tests),
        ]
    )
    print(text)
    if options.write:
        page = PAGE.read_text()
        before, after = page.split(BEGIN)[0], page.split(END)[1]
        PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")
    failed = broken(equals, worse, tests)
    print(*failed, sep="\n")
    return 1 if failed else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    sys.exit(main(parser.parse_args(namespace=Options())))
