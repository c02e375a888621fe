"""One version behind an endpoint, as a gateway has it."""

from __future__ import annotations

from shipway.core.outputs import finisher
from shipway.core.summaries import compile_summary, label_output
from shipway.core.validation import compile_validator
from shipway.gateway.cache import AnswerCache
from shipway.gateway.counters import Row
from shipway.gateway.loads import Load
from shipway.gateway.pool import ReplicaPool
from shipway.gateway.recording import Recorder
from shipway.gateway.runners import Runner
from shipway.wire.snapshot import Variant, VariantReport


class LiveVariant:
    """One version behind an endpoint, ready to be asked. Outlives snapshots that keep it.

    `cache` stands before the runner, None where the endpoint has none; `recorder` keeps its predictions,
    None where the endpoint captures nothing. `row` counts for all gateways
    together what `requests`, `errors` and `fallbacks` count for control. `holds` are requests in a
    rollout that may still come to it: the primary's while the candidate is asked.
    """

    __slots__ = (
        "cache",
        "conform",
        "endpoint",
        "finish",
        "holds",
        "label_of",
        "load",
        "number",
        "output_names",
        "recorder",
        "row",
        "runner",
        "spec",
        "summarise",
    )

    def __init__(self, endpoint: str, spec: Variant, runner: Runner, row: Row) -> None:
        self.endpoint = endpoint
        self.row = row
        self.spec = spec
        self.runner = runner
        self.cache: AnswerCache | None = None
        self.recorder: Recorder | None = None
        self.number = str(spec.version)
        self.conform = compile_validator(spec.signature)
        self.finish = finisher(spec.signature, spec.config, spec.classes)
        self.summarise = compile_summary(spec.signature, spec.config)
        self.label_of = label_output(spec.signature, spec.config)
        self.output_names = frozenset(spec.signature.output_names())
        self.load = Load()
        self.holds = 0

    @property
    def in_flight(self) -> int:
        """The requests inside it, with those that wait for it to wake or may still come to it."""
        return max(self.load.in_flight, self.holds)

    def report(self) -> VariantReport:
        """What control is told of it."""
        return VariantReport(
            endpoint=self.endpoint,
            variant=self.spec.key,
            ready=self.runner.is_ready,
            in_flight=self.in_flight,
            held=self.runner.waking.held if isinstance(self.runner, ReplicaPool) else 0,
            load=self.load.mean(),
            idle_s=self.load.idle_s,
            weight_pct=self.spec.weight_pct,
            error=self.runner.error,
        )

    def close(self) -> None:
        """Lets the model and the kept answers go; idempotent."""
        if self.cache is not None:
            self.cache.close()
        self.runner.close()
