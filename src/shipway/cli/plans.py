"""The strategy options of `deploy` as a rollout plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from shipway.core.errors import InvalidSpec

AT_ONCE = "none"
_KEYS: Mapping[str, Mapping[str, str]] = {
    "canary": {"steps": "steps", "hold": "hold_s", "pause": "pause"},
    "blue_green": {"hold": "preview_s", "bake": "bake_s", "pause": "pause"},
    "shadow": {"share": "share_pct", "hold": "hold_s", "pause": "pause"},
    "ab": {"metric": "metric", "goal": "goal", "weight": "weight_pct", "pause": "pause"},
}
"""Which options a strategy takes, and the keys of its stage that they set."""


def plan_of(
    strategies: Sequence[str], options: Mapping[str, Any], *, success: str | None
) -> dict[str, Any] | None:
    """The plan that the options make; None without any, so that the endpoint's own holds.

    An option counts for every stage that takes it. Guards are not in it: the endpoint's are kept. The
    server checks the values.

    Raises:
        InvalidSpec: a strategy is not known, or none of them takes an option that was given.
    """
    names = [name.replace("-", "_") for name in strategies]
    given = {
        key: value for key, value in options.items() if value is not None and value is not False
    }
    _check(names, given)
    if not names:
        if success is not None:
            raise _needless("success", "any strategy")
        return None
    stages = [] if AT_ONCE in names else [_stage(name, given) for name in names]
    return {"stages": stages, "success": success or ""}


def steps_of(text: str | None) -> list[int] | None:
    """The shares in `5,25,50`.

    Raises:
        InvalidSpec: one is not a whole number.
    """
    if text is None:
        return None
    try:
        return [int(part.strip().removesuffix("%")) for part in text.split(",")]
    except ValueError as exc:
        raise InvalidSpec(
            f"`{text}` is not a list of shares.", next_step="Write such as `--steps 5,25,50`."
        ) from exc


def _check(names: Sequence[str], given: Mapping[str, Any]) -> None:
    known = (*_KEYS, AT_ONCE)
    for name in names:
        if name not in known:
            listed = ", ".join(f"`{one}`" for one in known)
            raise InvalidSpec(f"`{name}` is not a strategy.", next_step=f"Use one of {listed}.")
    if AT_ONCE in names and len(names) > 1:
        raise InvalidSpec(
            f"`--strategy {AT_ONCE}` is all at once, and has no stage beside it.",
            next_step=f"Leave `{AT_ONCE}` out, or the other strategies.",
        )
    for option in given:
        takers = [name for name, keys in _KEYS.items() if option in keys]
        if not set(takers) & set(names):
            raise _needless(option, " or ".join(f"`{taker}`" for taker in takers))


def _needless(option: str, takers: str) -> InvalidSpec:
    return InvalidSpec(
        f"`--{option}` belongs to {takers}, which the command line does not ask for.",
        next_step="Add `--strategy`, or leave the option out.",
    )


def _stage(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    keys = _KEYS[name]
    stage = {keys[option]: value for option, value in given.items() if option in keys}
    if name == "ab" and "metric" not in stage:
        raise InvalidSpec(
            "`--strategy ab` needs the metric that decides.",
            next_step="Name it, such as `--metric converted`; it is posted as outcomes.",
        )
    return {"strategy": name, **stage}
