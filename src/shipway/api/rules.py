"""The table of the control API: which right each route wants, and on what."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from shipway.core.access import SERVER, Kind, Resource, Right


class About(StrEnum):
    """What a route's right is wanted on."""

    NOTHING = "nothing"
    """Everybody may call it: it says nothing about anybody."""

    CALLER = "caller"
    """Everybody who is known may call it; the answer holds what they may see."""

    ANYTHING = "anything"
    """The right on anything at all opens it; what exactly is looked at with the body or the answer."""

    SERVER = "server"
    ENVIRONMENT = "environment"
    MODEL = "model"
    ENDPOINT = "endpoint"


class Rule(msgspec.Struct, frozen=True):
    """What a route wants. `parameter` is the path's part that names the thing."""

    about: About
    right: Right | None = None
    parameter: str = ""

    def resource(self, path: Mapping[str, str], environment: str) -> Resource:
        """What the right is wanted on; `environment` is the server's own."""
        name = path.get(self.parameter, "")
        match self.about:
            case About.MODEL:
                return Resource(Kind.MODEL, name)
            case About.ENDPOINT:
                return Resource(Kind.ENDPOINT, name, environment)
            case About.ENVIRONMENT:
                return Resource(Kind.ENVIRONMENT, name)
            case _:
                return SERVER


_PUBLIC = Rule(About.NOTHING)
_KNOWN = Rule(About.CALLER)


def _model(right: Right) -> Rule:
    return Rule(About.MODEL, right, "model")


def _endpoint(right: Right) -> Rule:
    return Rule(About.ENDPOINT, right, "name")


_POLICY = Rule(About.ENVIRONMENT, Right.ADMINISTER, "name")
_KEYS = Rule(About.ANYTHING, Right.ADMINISTER)
_AUDIT = Rule(About.ANYTHING, Right.AUDIT)
_SERVE = Rule(About.SERVER, Right.SERVE)

RULES: Mapping[tuple[str, str], Rule] = {
    ("GET", "/health"): _PUBLIC,
    ("GET", "/schemas/endpoint"): _PUBLIC,
    ("GET", "/schemas/environment"): _PUBLIC,
    ("GET", "/whoami"): _KNOWN,
    ("GET", "/status"): _KNOWN,
    ("GET", "/models"): _KNOWN,
    ("GET", "/models/{model}"): _model(Right.READ),
    ("GET", "/models/{model}/versions/{version}"): _model(Right.READ),
    ("GET", "/models/{model}/versions/{version}/files/{path:path}"): _model(Right.READ),
    ("POST", "/models/{model}/versions"): _model(Right.REGISTER),
    ("DELETE", "/models/{model}/versions/{version}"): _model(Right.REGISTER),
    ("GET", "/bundles/{digest}"): Rule(About.ANYTHING, Right.REGISTER),
    ("PUT", "/models/{model}/aliases/{alias}"): _model(Right.REGISTER),
    ("DELETE", "/models/{model}/aliases/{alias}"): _model(Right.REGISTER),
    ("GET", "/models/{model}/diff"): _model(Right.READ),
    ("GET", "/models/{model}/where"): _model(Right.READ),
    ("POST", "/models/{model}/versions/{version}/evaluations"): _model(Right.REGISTER),
    ("GET", "/models/{model}/versions/{version}/evaluations"): _model(Right.READ),
    ("GET", "/models/{model}/versions/{version}/promotions"): _model(Right.READ),
    ("POST", "/models/{model}/versions/{version}/promotions"): _model(Right.DEPLOY),
    ("POST", "/models/{model}/versions/{version}/reviews"): _model(Right.APPROVE),
    ("GET", "/models/{model}/versions/{version}/trust"): _model(Right.READ),
    ("POST", "/models/{model}/versions/{version}/signatures"): _model(Right.REGISTER),
    ("GET", "/models/{model}/versions/{version}/verification"): _model(Right.READ),
    ("GET", "/endpoints"): _KNOWN,
    ("GET", "/endpoints/{name}"): _endpoint(Right.READ),
    ("PUT", "/endpoints/{name}"): _endpoint(Right.DEPLOY),
    ("DELETE", "/endpoints/{name}"): _endpoint(Right.DEPLOY),
    ("POST", "/endpoints/{name}/deploy"): _endpoint(Right.DEPLOY),
    ("POST", "/endpoints/{name}/rollback"): _endpoint(Right.DEPLOY),
    ("GET", "/endpoints/{name}/logs"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/metrics"): _endpoint(Right.READ),
    ("GET", "/top"): _KNOWN,
    ("GET", "/endpoints/{name}/rollout"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/rollouts"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/rollout/pairs"): _endpoint(Right.READ),
    ("POST", "/endpoints/{name}/rollout/outcomes"): _endpoint(Right.INVOKE),
    ("POST", "/endpoints/{name}/rollout/{action}"): _endpoint(Right.DEPLOY),
    ("GET", "/endpoints/{name}/monitors"): _endpoint(Right.READ),
    ("POST", "/endpoints/{name}/monitors/{monitor}/run"): _endpoint(Right.DEPLOY),
    ("GET", "/endpoints/{name}/monitors/{monitor}/runs"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/monitor-runs/{run}"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/monitor-runs/{run}/report.html"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/monitor-runs/{run}/plot.svg"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/monitor-runs/{run}/plot.png"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/alert-rules"): _endpoint(Right.READ),
    ("GET", "/alerts"): _KNOWN,
    ("GET", "/alerts/{alert}"): _KNOWN,
    ("POST", "/alerts/{alert}/{verb}"): Rule(About.ANYTHING, Right.DEPLOY),
    ("GET", "/silences"): _KNOWN,
    ("POST", "/silences"): Rule(About.ANYTHING, Right.DEPLOY),
    ("DELETE", "/silences/{silence}"): Rule(About.ANYTHING, Right.DEPLOY),
    ("GET", "/channels"): _KEYS,
    ("POST", "/channels"): _KEYS,
    ("POST", "/channels/{channel}/test"): _KEYS,
    ("DELETE", "/channels/{channel}"): _KEYS,
    ("GET", "/predictions"): _KNOWN,
    ("GET", "/endpoints/{name}/predictions"): _endpoint(Right.INSPECT),
    ("GET", "/endpoints/{name}/predictions/stats"): _endpoint(Right.READ),
    ("GET", "/endpoints/{name}/predictions/{request_id:path}"): _endpoint(Right.INSPECT),
    ("GET", "/endpoints/{name}/performance"): _endpoint(Right.READ),
    ("GET", "/environments"): _KNOWN,
    ("GET", "/environments/{name}"): _KNOWN,
    ("PUT", "/environments/{name}"): _POLICY,
    ("DELETE", "/environments/{name}"): _POLICY,
    ("GET", "/audit"): _AUDIT,
    ("GET", "/audit/check"): _AUDIT,
    ("GET", "/audit/chain"): Rule(About.SERVER, Right.AUDIT),
    ("GET", "/audit/{sequence}"): _AUDIT,
    ("POST", "/audit/prune"): Rule(About.SERVER, Right.ADMINISTER),
    ("POST", "/audit/rotate-key"): Rule(About.SERVER, Right.ADMINISTER),
    ("GET", "/keys"): _KEYS,
    ("POST", "/keys"): _KEYS,
    ("POST", "/keys/{key}/rotate"): _KEYS,
    ("DELETE", "/keys/{key}"): _KEYS,
    ("PUT", "/keys/{key}/limits"): _KEYS,
    ("GET", "/projects"): _KEYS,
    ("PUT", "/projects/{name}/limits"): Rule(About.SERVER, Right.ADMINISTER),
    ("GET", "/access"): _KEYS,
    ("PUT", "/access/{subject}"): _KEYS,
    ("GET", "/costs"): _KNOWN,
    ("GET", "/costs/advice"): _KNOWN,
    ("GET", "/budgets"): _KNOWN,
    ("GET", "/internal/v1/snapshot"): _SERVE,
    ("POST", "/internal/v1/gateways/{gateway}/report"): _SERVE,
    ("POST", "/internal/v1/gateways/{gateway}/telemetry"): _SERVE,
    ("GET", "/metrics"): Rule(About.SERVER, Right.READ),
    ("POST", "/internal/v1/segments"): _SERVE,
}
"""By method and path, below `PREFIX` where it is no internal one. What is not here is closed to everybody."""

PREFIX = "/api/v1"


def rule_of(method: str, path: str) -> Rule | None:
    """The rule of a route, by its path as FastAPI has it: some releases leave the prefix out."""
    return RULES.get((method, path.removeprefix(PREFIX)))
