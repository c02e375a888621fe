"""Endpoint specs as people write them (parsed YAML or JSON), and their published JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from shipway.core.alerts.plan import AlertPlan, require_sensible
from shipway.core.budgets import Budget
from shipway.core.capturing import Capture, Reading
from shipway.core.endpoints import Cache, EndpointSpec, Fallback, Limits, Placement, Scaling
from shipway.core.errors import InvalidSpec
from shipway.core.isolation import Sandbox
from shipway.core.monitors import require_monitors
from shipway.core.secrets import SecretRef, require_references
from shipway.core.strategies import (
    MOST_METRIC_LENGTH,
    Ab,
    BlueGreen,
    Canary,
    Guards,
    RolloutPlan,
    steps_of,
)
from shipway.core.versions import checked_name, parse_version

_NEXT_STEP = "The keys are in docs/reference/endpoint-spec.md, or print `shipway schema`."
_NESTED: Mapping[str, type[msgspec.Struct]] = {
    "limits": Limits,
    "sandbox": Sandbox,
    "scaling": Scaling,
    "cache": Cache,
    "fallback": Fallback,
    "capture": Capture,
    "budget": Budget,
    "capture.key": Reading,
    "capture.segment": Reading,
    "rollout": RolloutPlan,
    "rollout.guards": Guards,
    "alerts": AlertPlan,
}


def spec_of(data: Any, *, source: str = "The spec") -> EndpointSpec:
    """The endpoint spec in parsed YAML or JSON; `source` begins every message.

    Raises:
        InvalidSpec: an unknown key (with the nearest known one), a missing key, a value of the wrong
            type or out of bounds (with its path), or a malformed name.
    """
    if not isinstance(data, Mapping):
        raise InvalidSpec(
            f"{source} is a {type(data).__name__}, not a mapping of keys.", next_step=_NEXT_STEP
        )
    _refuse_unknown(data, EndpointSpec, source=source, path="")
    _refuse_values(data.get("secrets"), source)
    try:
        spec = msgspec.convert(data, EndpointSpec)
    except msgspec.ValidationError as exc:
        raise InvalidSpec(f"{source} is not valid: {exc}.", next_step=_NEXT_STEP) from exc
    checked_name(spec.name, kind="endpoint")
    parse_version(spec.model)
    _require_sense(spec, source)
    require_references(spec.secrets, source=source)
    return spec


def _refuse_values(secrets: Any, source: str) -> None:
    """Refuses a secret where its reference should be, without repeating it."""
    known = SecretRef.__struct_fields__
    for reference in secrets.values() if isinstance(secrets, Mapping) else ():
        is_reference = isinstance(reference, Mapping) and all(key in known for key in reference)
        if not is_reference:
            raise InvalidSpec(
                f"{source} has a secret's value, not a reference to one.",
                next_step="Put the value into a variable or a file of the server, and write"
                " `NAME: {env: VARIABLE}` or `NAME: {file: /run/secrets/name}`.",
                path="secrets",
            )


def _require_sense(spec: EndpointSpec, source: str) -> None:
    """Refuses what each key allows and all of them together do not."""
    scaling, fallback = spec.scaling, spec.fallback
    if spec.monitors and spec.capture is None:
        raise InvalidSpec(
            f"{source} has `monitors`, and keeps no predictions that they could look at.",
            next_step="Add `capture: {}`, or leave `monitors` out.",
        )
    require_monitors(spec.monitors or ())
    if spec.secrets and spec.placement is Placement.INLINE:
        raise InvalidSpec(
            f"{source} has `secrets`, and its model runs in the gateways.",
            next_step="Leave `secrets` out: a model that is data has no code that reads them.",
        )
    if spec.rollout is not None:
        _require_order(spec.rollout, source)
        asked = sorted(spec.rollout.feedback_metrics)
        if asked and spec.capture is None:
            raise InvalidSpec(
                f"{source} has a rollout that goes by `{asked[0]}`, and keeps no predictions that feedback"
                " could be about.",
                next_step="Add `capture: {}`, or post outcomes (`shipway rollout outcomes`).",
            )
    if scaling is not None and scaling.min_replicas > scaling.max_replicas:
        raise InvalidSpec(
            f"{source} wants at least {scaling.min_replicas} replicas and at most"
            f" {scaling.max_replicas}.",
            next_step="Raise `scaling.max_replicas`, or lower `scaling.min_replicas`.",
        )
    if spec.alerts is not None:
        require_sensible(spec.alerts, source=source)
    if fallback is not None:
        answers = (fallback.endpoint, fallback.version, fallback.answer)
        given = [value for value in answers if value is not None]
        if len(given) != 1:
            raise InvalidSpec(
                f"{source} has a `fallback` with {len(given)} answers.",
                next_step="Give exactly one of `endpoint`, `version` and `answer`.",
            )
        if fallback.endpoint == spec.name:
            raise InvalidSpec(f"{source} falls back to itself.", next_step="Name another endpoint.")


def _require_order(plan: RolloutPlan, source: str) -> None:
    """Refuses a plan whose candidate would get less after more."""
    for number, stage in enumerate(plan.stages):
        if isinstance(stage, Canary):
            weights = [step.weight_pct for step in steps_of(stage)]
            if weights != sorted(set(weights)):
                raise InvalidSpec(
                    f"{source} has a canary with the steps {weights}.",
                    next_step="Let each step of a canary be larger than the one before.",
                )
        if isinstance(stage, BlueGreen) and number + 1 < len(plan.stages):
            raise InvalidSpec(
                f"{source} has a stage after `blue_green`, which ends with all the traffic.",
                next_step="Let `blue_green` be the last stage.",
            )
    for guard in plan.guards.metrics:
        _require_metric(guard.metric, source)
    for test in plan.stages:
        if isinstance(test, Ab):
            _require_metric(test.metric, source)


def _require_metric(name: str, source: str) -> None:
    if not 0 < len(name) <= MOST_METRIC_LENGTH:
        raise InvalidSpec(
            f"{source} has a metric whose name is empty or too long.",
            next_step=f"Use up to {MOST_METRIC_LENGTH} characters.",
        )


def _refuse_unknown(
    data: Mapping[Any, Any], kind: type[msgspec.Struct], *, source: str, path: str
) -> None:
    known = kind.__struct_fields__
    for key, value in data.items():
        place = f"{path}{key}"
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f" Did you mean `{path}{near[0]}`?" if near else ""
            raise InvalidSpec(
                f"{source} has the unknown key `{place}`.{hint}", next_step=_NEXT_STEP, key=place
            )
        nested = _NESTED.get(place)
        if nested is not None and isinstance(value, Mapping):
            _refuse_unknown(value, nested, source=source, path=f"{place}.")


def spec_schema() -> dict[str, Any]:
    """The JSON Schema of an endpoint spec."""
    return msgspec.json.schema(EndpointSpec)
