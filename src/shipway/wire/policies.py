"""Policies of environments as people write them (parsed YAML or JSON), and their published JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import msgspec

from shipway.core.errors import InvalidSpec
from shipway.core.policy import (
    Approvals,
    Artifacts,
    AuditKeeping,
    Checks,
    EnvironmentPolicy,
    EvaluationCheck,
    Freeze,
    LatencyCheck,
    Signer,
    SliceOf,
)
from shipway.core.versions import checked_name

_NEXT_STEP = "The keys are in docs/reference/environment-policy.md."
_NESTED: Mapping[tuple[type[msgspec.Struct], str], type[msgspec.Struct]] = {
    (EnvironmentPolicy, "checks"): Checks,
    (EnvironmentPolicy, "approvals"): Approvals,
    (EnvironmentPolicy, "freeze"): Freeze,
    (EnvironmentPolicy, "audit"): AuditKeeping,
    (Checks, "evaluations"): EvaluationCheck,
    (Checks, "latency"): LatencyCheck,
    (Checks, "signers"): Signer,
    (EvaluationCheck, "slice"): SliceOf,
}
"""What each key holds: one, or a list of them."""


def policy_of(data: Any, *, source: str = "The policy") -> EnvironmentPolicy:
    """The policy in parsed YAML or JSON; `source` begins every message.

    Raises:
        InvalidSpec: an unknown key (with the nearest known one), a missing key, a value of the wrong
            type or out of bounds (with its path), a malformed name, or a rule that says nothing.
    """
    if not isinstance(data, Mapping):
        raise _invalid(f"{source} is a {type(data).__name__}, not a mapping of keys.")
    _refuse_unknown(data, EnvironmentPolicy, source=source, path="")
    try:
        policy = msgspec.convert(_with_times(data), EnvironmentPolicy)
    except msgspec.ValidationError as exc:
        raise _invalid(f"{source} is not valid: {exc}.") from exc
    _require_names(policy, source)
    for place, check in enumerate(policy.checks.evaluations):
        _require_bounds(check, f"{source}: `checks.evaluations[{place}]`")
    _require_signers(policy.checks, source)
    _require_reachable(policy.approvals, source)
    for place, freeze in enumerate(policy.freeze):
        _require_times(freeze, f"{source}: `freeze[{place}]`")
    return policy


def policy_schema() -> dict[str, Any]:
    """The JSON Schema of a policy."""
    return msgspec.json.schema(EnvironmentPolicy)


def _invalid(message: str, *, next_step: str = _NEXT_STEP, **details: Any) -> InvalidSpec:
    return InvalidSpec(message, next_step=next_step, **details)


def _refuse_unknown(
    data: Mapping[Any, Any], kind: type[msgspec.Struct], *, source: str, path: str
) -> None:
    known = kind.__struct_encode_fields__
    for key, value in data.items():
        place = f"{path}{key}"
        if key not in known:
            near = get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f" Did you mean `{path}{near[0]}`?" if near else ""
            raise _invalid(f"{source} has the unknown key `{place}`.{hint}", key=place)
        nested = _NESTED.get((kind, key))
        if nested is None:
            continue
        items = {place: value} if isinstance(value, Mapping) else _items(place, value)
        for where, item in items.items():
            if isinstance(item, Mapping):
                _refuse_unknown(item, nested, source=source, path=f"{where}.")


def _items(place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, list | tuple):
        return {}
    return {f"{place}[{index}]": item for index, item in enumerate(value)}


def _with_times(data: Mapping[Any, Any]) -> dict[Any, Any]:
    """The data with times of day as text: YAML reads an unquoted 16:00 as 960, in minutes."""
    windows = data.get("freeze")
    if not isinstance(windows, list | tuple):
        return dict(data)
    return {**data, "freeze": [_window_with_times(window) for window in windows]}


def _window_with_times(window: Any) -> Any:
    if not isinstance(window, Mapping):
        return window
    return {key: _time(value) if key in ("from", "to") else value for key, value in window.items()}


def _time(value: Any) -> Any:
    if type(value) is int and 0 <= value <= 24 * 60:
        return f"{value // 60:02}:{value % 60:02}"
    return value


def _require_names(policy: EnvironmentPolicy, source: str) -> None:
    checked_name(policy.name, kind="environment")
    if policy.name == "latest":
        raise _invalid(
            f"{source} is of `latest`, which always means the newest version.",
            next_step="Choose another name: the environment's alias has it too.",
        )
    if policy.from_environment is None:
        return
    checked_name(policy.from_environment, kind="environment")
    if policy.from_environment == policy.name:
        raise _invalid(
            f"{source} asks for a promotion to `{policy.name}` before one to `{policy.name}`.",
            next_step="Name another environment in `from_environment`.",
        )


def _require_bounds(check: EvaluationCheck, where: str) -> None:
    low, high = check.at_least, check.at_most
    if low is None and high is None:
        raise _invalid(
            f"{where} bounds nothing.", next_step="Give it `at_least`, `at_most`, or both."
        )
    if low is not None and high is not None and low > high:
        raise _invalid(
            f"{where} wants `{check.metric}` at least {low:g} and at most {high:g}.",
            next_step="Raise `at_most`, or lower `at_least`.",
        )


def _require_signers(checks: Checks, source: str) -> None:
    names = [signer.name for signer in checks.signers]
    if checks.artifacts is Artifacts.SIGNED and not names:
        raise _invalid(
            f"{source} wants signed artifacts, and names nobody who may sign.",
            next_step="Give `checks.signers` a `name` and a public `key` in PEM.",
        )
    if len(set(names)) < len(names):
        raise _invalid(f"{source} names a signer twice.", next_step="Give each key its own name.")


def _require_reachable(approvals: Approvals, source: str) -> None:
    people = set(approvals.by)
    if people and not approvals.required:
        raise _invalid(
            f"{source} says who may approve, and wants no approval.",
            next_step="Say how many in `approvals.required`.",
        )
    if people and len(people) < approvals.required:
        raise _invalid(
            f"{source} wants {approvals.required} approvals, and only {len(people)} may give one.",
            next_step="Lower `approvals.required`, or name more people in `approvals.by`.",
        )


def _require_times(freeze: Freeze, where: str) -> None:
    is_once = freeze.start is not None and freeze.end is not None
    has_one = freeze.start is not None or freeze.end is not None
    if bool(freeze.days) == has_one or has_one != is_once:
        raise _invalid(
            f"{where} does not say when.",
            next_step="Give it `start` and `end`, or `days` (and `from`, `to`).",
        )
    if is_once and freeze.start >= freeze.end:  # type: ignore[operator]
        raise _invalid(f"{where} ends before it begins.", next_step="Put `end` after `start`.")
    if freeze.since == "24:00":
        raise _invalid(f"{where} begins at 24:00.", next_step="Name the next day, from 00:00.")
