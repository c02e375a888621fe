"""Whether the ONNX form of a model answers as the original does.

The rule. Labels and all other exact outputs must be equal in every row; a tie that the two forms
break differently is a mismatch like any other. A number may differ by `TOLERANCE` times the largest
of: its own size, the spread (standard deviation) of that output over the sample, and, for
probabilities, 1. Two NaN are equal, and so are two infinities of one sign.
An edge row that both forms refuse agrees. One that only one of them answers does not: an ONNX graph
that answers where the original raises (an unseen category under `handle_unknown="error"`, say) would
turn an error into a silent guess.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import msgspec
import numpy as np

from shipway.bundles.formats.port import CompiledOnnx, OpenArtifact, Sample
from shipway.core.bundles import Format, ParityReport
from shipway.core.edges import EdgeRows, edge_rows
from shipway.core.signature import Signature
from shipway.core.tensors import Array
from shipway.engines.onnx import OnnxEngine
from shipway.engines.port import Engine

TOLERANCE = 1e-4
"""The share of a number's scale by which the two forms may differ."""

MAX_ROWS = 2000
"""So many rows of the sample are compared, evenly spread over it."""

_MAX_TIMED_CALLS = 200
_MAX_TIMED_S = 0.4

Inputs = Mapping[str, Array]
Answers = dict[str, Array]


def check_parity(
    artifact: OpenArtifact,
    compiled: CompiledOnnx,
    signature: Signature,
    sample: Sample | None,
    *,
    clock: Callable[[], float],
) -> ParityReport:
    """Compares both forms on the sample and on edge rows, and times one row through each.

    `clock` gives seconds, from any start. Never raises for what the model does: a form that fails
    is a parity that does not hold.
    """
    report, onnx = _report(artifact, compiled, signature, sample)
    row = edge_rows(signature, _spread_rows(sample)).row(0)
    if artifact.format is Format.ONNX:
        return msgspec.structs.replace(report, onnx_ms=_call_ms(artifact.engine, row, clock))
    if onnx is None:
        return report
    return _timed(report, artifact.engine, onnx, row, clock)


def agrees(
    artifact: OpenArtifact, compiled: CompiledOnnx, signature: Signature, sample: Sample | None
) -> bool:
    """Whether parity holds; nothing is timed."""
    return _report(artifact, compiled, signature, sample)[0].holds


def _report(
    artifact: OpenArtifact, compiled: CompiledOnnx, signature: Signature, sample: Sample | None
) -> tuple[ParityReport, OnnxEngine | None]:
    """The report without times, and the engine to time, if there is something to time."""
    if artifact.format is Format.ONNX:
        own = ParityReport(holds=True, reason="The artifact is ONNX itself.", tolerance=TOLERANCE)
        return own, None
    try:
        onnx = _engine(compiled, signature)
    except Exception as exc:  # noqa: BLE001 - ONNX Runtime's errors share no base class
        reason = f"ONNX Runtime cannot load it: {_named(exc)}."
        return ParityReport(holds=False, reason=reason), None
    seen = _spread_rows(sample)
    return _compared(artifact.engine, onnx, seen, edge_rows(signature, seen)), onnx


def _engine(compiled: CompiledOnnx, signature: Signature) -> OnnxEngine:
    return OnnxEngine(
        compiled.graph, signature=signature, feeds=compiled.feeds, outputs=compiled.outputs
    )


def _spread_rows(sample: Sample | None) -> dict[str, Array] | None:
    if sample is None or sample.rows == 0:
        return None
    if sample.rows <= MAX_ROWS:
        return dict(sample.inputs)
    chosen = np.linspace(0, sample.rows - 1, MAX_ROWS).astype(int)
    return {name: array[chosen] for name, array in sample.inputs.items()}


class _Tally(msgspec.Struct, kw_only=True):
    """What was found so far. `difference` and `allowed` are of the number that is worst off."""

    scales: dict[str, float] = {}
    label_mismatches: int = 0
    difference: float = 0.0
    allowed: float = TOLERANCE
    first_problem: str = ""
    one_refused: bool = False

    def note(self, problem: str) -> None:
        self.first_problem = self.first_problem or problem

    def take(self, original: Answers, onnx: Answers, where: str) -> None:
        """Compares all outputs of the same rows."""
        if list(original) != list(onnx):
            self.note(f"the outputs are {list(onnx)}, not {list(original)}")
            return
        for name, expected in original.items():
            self._take(name, expected, onnx[name], where)

    def _take(self, name: str, expected: Array, actual: Array, where: str) -> None:
        if expected.shape != actual.shape:
            self.note(f"`{name}` has shape {actual.shape}, not {expected.shape}, on {where}")
        elif expected.dtype.kind == "f" and name != "label":
            self._numbers(name, expected, actual, where)
        else:
            different = int(np.count_nonzero(expected != actual))
            self.label_mismatches += different
            if different:
                self.note(f"`{name}` differs in {different} of {expected.size} values on {where}")

    def _numbers(self, name: str, expected: Array, actual: Array, where: str) -> None:
        a, b = expected.astype(np.float64), actual.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        with np.errstate(all="ignore"):
            distance = np.where(same, 0.0, np.abs(a - b))
        distance = np.where(np.isfinite(distance), distance, np.inf)
        size = np.where(np.isfinite(a), np.abs(a), 0.0)
        allowed = TOLERANCE * np.maximum(size, self.scales.get(name, 1.0))
        worst = int(np.argmax(distance / allowed)) if distance.size else None
        if worst is None:
            return
        found, bound = float(distance.flat[worst]), float(allowed.flat[worst])
        if found / bound >= self.difference / self.allowed:
            self.difference, self.allowed = found, bound
        if found > bound:
            self.note(f"`{name}` differs by {found:.3g} (allowed {bound:.3g}) on {where}")


def _scales(original: Answers) -> dict[str, float]:
    """The scale of each numeric output, where its size says nothing: 1 for probabilities."""
    scales = {}
    for name, array in original.items():
        if array.dtype.kind == "f" and name != "probabilities":
            finite = array[np.isfinite(array)].astype(np.float64)
            scales[name] = (float(np.std(finite)) if finite.size else 0.0) or 1.0
    return scales


def _compared(original: Engine, onnx: Engine, seen: Inputs | None, edges: EdgeRows) -> ParityReport:
    tally = _Tally()
    rows = 0
    if seen is not None:
        rows = len(next(iter(seen.values())))
        expected, actual = _answers(original, seen), _answers(onnx, seen)
        if isinstance(expected, dict):
            tally.scales = _scales(expected)
        _take_rows(tally, expected, actual, "the sample")
    _compare_edges(tally, original, onnx, edges)
    problem = tally.first_problem
    return ParityReport(
        holds=not problem,
        reason=f"Served from the original: {problem}." if problem else "Both forms agree.",
        sample_rows=rows,
        edge_rows=len(edges.labels),
        label_mismatches=tally.label_mismatches,
        largest_difference=tally.difference,
        tolerance=tally.allowed,
    )


def _compare_edges(tally: _Tally, original: Engine, onnx: Engine, edges: EdgeRows) -> None:
    """Compares all edge rows at once; where a form refuses some, halves of them, down to one row.

    The first row that only one form answers ends it: nothing after that could make parity hold.
    """
    waiting = [slice(0, len(edges.labels))]
    while waiting and not tally.one_refused:
        part = waiting.pop()
        rows = {name: array[part] for name, array in edges.inputs.items()}
        expected, actual = _answers(original, rows), _answers(onnx, rows)
        if isinstance(expected, dict) and isinstance(actual, dict):
            _take_edges(tally, expected, actual, edges.labels[part])
        elif part.stop - part.start > 1:
            middle = (part.start + part.stop) // 2
            waiting += [slice(middle, part.stop), slice(part.start, middle)]
        elif isinstance(expected, dict) or isinstance(actual, dict):
            _take_rows(tally, expected, actual, edges.labels[part.start])
            tally.one_refused = True


def _take_edges(tally: _Tally, expected: Answers, actual: Answers, labels: tuple[str, ...]) -> None:
    for index, label in enumerate(labels):
        tally.take(_row(expected, index), _row(actual, index), label)


def _row(answers: Answers, index: int) -> Answers:
    return {name: array[index : index + 1] for name, array in answers.items()}


def _take_rows(tally: _Tally, expected: Answers | str, actual: Answers | str, where: str) -> None:
    match expected, actual:
        case dict(), dict():
            tally.take(expected, actual, where)
        case str(), dict():
            tally.note(f"the original refuses {where} and the ONNX form answers it ({expected})")
        case dict(), str():
            tally.note(f"the ONNX form fails on {where} ({actual})")
        case _:
            tally.note(f"both forms fail on {where} ({expected})")


def _answers(engine: Engine, inputs: Inputs) -> Answers | str:
    """The engine's answers, or what it raised."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return engine.run(inputs)
        except Exception as exc:  # noqa: BLE001 - a model's code raises anything; it becomes a finding
            return _named(exc)


def _named(exc: Exception) -> str:
    lines = str(exc).strip().splitlines() or [""]
    return f"{type(exc).__name__}: {lines[0][:200]}".rstrip(".")


def _timed(
    report: ParityReport, original: Engine, onnx: Engine, row: Inputs, clock: Callable[[], float]
) -> ParityReport:
    slow, quick = _call_ms(original, row, clock), _call_ms(onnx, row, clock)
    speed_up = slow / quick if slow and quick else None
    changes: dict[str, Any] = {"original_ms": slow, "onnx_ms": quick, "speed_up": speed_up}
    return msgspec.structs.replace(report, **changes)


def _call_ms(engine: Engine, row: Inputs, clock: Callable[[], float]) -> float | None:
    """The median time of one row; None when the engine refuses it."""
    if isinstance(_answers(engine, row), str):
        return None
    started, taken = clock(), list[float]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        while len(taken) < _MAX_TIMED_CALLS and clock() - started < _MAX_TIMED_S:
            before = clock()
            engine.run(row)
            taken.append(clock() - before)
    return median(taken) * 1000
