"""Writes the reference pages from the code: `python docs/reference/generate.py`.

`tests/docs` fails when a page differs from what this gives, so the code is the one source.
"""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import msgspec
import typer.main

from shipway import settings as settings_module
from shipway.api.app import create_app
from shipway.api.rules import About, rule_of
from shipway.api.services import Services
from shipway.cli.main import app
from shipway.cli.messages import MESSAGES, Exit, Words
from shipway.client.alerting import ChannelFields
from shipway.client.auditing import AuditFilters
from shipway.client.evaluating.question import EvaluateOptions
from shipway.client.feedback import TruthFields
from shipway.client.logged import LogFilters
from shipway.client.packing import PackOptions
from shipway.client.synchronous import Client
from shipway.control import exposition
from shipway.core import (
    capturing,
    endpoints,
    errors,
    isolation,
    monitors,
    policy,
    strategies,
    telemetry,
)
from shipway.core.alerts import plan as alert_plan
from shipway.core.alerts import rules as alert_rules
from shipway.core.alerts.defaults import DEFAULT_RULES, SERVER_RULES, runbook_of
from shipway.core.alerts.installation import CERTIFICATE_RULE, DISK_RULE, SPACE, URGENT_S
from shipway.core.alerts.plan import AlertPlan, Notify, Override, Reaction, Slo
from shipway.core.alerts.rules import Absence, Anomaly, BurnRate, Change, Threshold
from shipway.core.budgets import Budget
from shipway.core.capturing import Capture, Reading, Redact
from shipway.core.endpoints import Cache, EndpointSpec, Fallback, Limits, Scaling
from shipway.core.errors import ShipwayError
from shipway.core.health import EXPIRES_SOON_S
from shipway.core.isolation import Sandbox
from shipway.core.measures import MEASURES, OF_SERVER
from shipway.core.monitors import Against, MonitorSpec
from shipway.core.policy import (
    AllowedStrategy,
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
from shipway.core.rates import RateLimit
from shipway.core.resolutions import FINE, HOURS, MINUTES
from shipway.core.strategies import (
    Ab,
    BlueGreen,
    Canary,
    Crashes,
    Disagreement,
    ErrorRate,
    Guards,
    Latency,
    MetricGuard,
    Rejections,
    RolloutPlan,
    Segment,
    Shadow,
    Shift,
    Step,
    Sticky,
)
from shipway.core.telemetry import BOUNDS_S, Outcome
from shipway.gateway.grpc.status import code_of
from shipway.gateway.metrics import FAMILIES
from shipway.settings import Settings
from shipway.wire.exposition import Family
from shipway.wire.problems import status_of

HERE = Path(__file__).parent
_MADE = "<!-- Made by docs/reference/generate.py; edit the code, then run it. -->\n"

_SPEC_WORDS = {
    "name": "The name that callers use: 1 to 63 of `a-z 0-9 . _ -`.",
    "model": "What serves: `churn:2`, `churn@champion`, or `churn` for the newest version.",
    "environment": "The environment whose gateways serve it; the server's own when left out.",
    "replicas": "How many copies run, with placement `process` (1 to 64).",
    "placement": "Where the model runs: `auto`, `inline` or `process`.",
    "limits": "The bounds of the endpoint, below.",
    "sandbox": "What a replica's process may do and use, below; see docs/explanation/isolation.md.",
    "scaling": "Lets the number of replicas follow the load, below; a fixed number when left out.",
    "residency": "Which models stay in memory under a budget: `auto`, `preload` or `pinned`.",
    "cache": "Keeps answers for equal inputs, below; off when left out.",
    "fallback": "What answers when the endpoint's own version cannot, below; nothing when left out.",
    "warm_s": "Seconds that a replaced version stays ready, for an instant rollback.",
    "rollout": "How one version replaces another, see below; all at once when left out.",
    "secrets": "Variables of the model's process, each by reference:"
    " `HF_TOKEN: {env: MODEL_HF_TOKEN}`, `DB_PASSWORD: {file: /run/secrets/models/db}`. See"
    " [keep secrets](../howto/keep-secrets.md).",
    "monitors": "The checks of what is kept, below; the defaults when left out, none for `[]`. See"
    " [watch for drift](../howto/monitors.md).",
    "use_case": "A tag that costs are summed by; up to 63 characters.",
    "budget": "What the endpoint may cost, below; no bound when left out.",
    "capture": "What is kept of predictions, below; nothing when left out. See"
    " [capture predictions](../howto/capture-predictions.md).",
    "alerts": "Its alert rules, who is told, and what is done; the default rules when left out. See"
    " [alerts](alerts.md).",
}

_METRICS_WORDS = """\
`version` is written `churn:2`. It is empty for requests refused before a version had its turn, and
`endpoint` too for requests to endpoints that do not exist. What is refused before it is read as a
request to a model (413, malformed HTTP) is not counted.

Buckets of `shipway_request_seconds` end at {bounds} seconds; rates of 429 and 504 are in
`shipway_requests_total`, and do not spoil its quantiles.

Counters do not go backwards when a gateway ends or is killed, nor when the server is started again:
its counts stay in `run/counters/past.bin` of the state directory. Its requests in flight are gone at
once. Scrape one address; a second gateway's page would count everything twice.
"""

_MEASURES_WORDS = f"""\
What `shipway metrics`, `GET /api/v1/endpoints/NAME/metrics` and alert rules name. Each is computed from the counts of
a whole period, so that a day's value is that of the day's requests. It is none where the period does not say, such as
the error rate of no requests. Quantiles are off by at most the width of their latency bucket.

Counts are kept in windows of {FINE.step_s} s for {FINE.keep_s // 3600} hours, of a minute for {MINUTES.keep_s // 86400}
days, and of an hour for {HOURS.keep_s // 86400} days.
"""

_EXITS = {
    Exit.OK: "done",
    Exit.OTHER: "not done: a question was answered with no, or a claim of the demo was not met",
    Exit.USAGE: "the command line cannot be read",
    Exit.NOT_FOUND: "a named thing does not exist",
    Exit.INVALID: "the input, spec or artifact is not valid",
    Exit.CONFLICT: "the present state forbids it",
    Exit.UNAVAILABLE: "a server, replica, store or environment is away or broken",
    Exit.NOT_DONE: "a deploy failed, was not live in time, or its rollout ended without it",
    Exit.BUG: "a bug in Shipway, or in the model's code",
    Exit.INTERRUPTED: "ended with Ctrl-C",
}


def cli() -> str:
    """Every command with its arguments and options, and the exit codes."""
    parts = ["# Command line\n", "Answers go to stdout, everything else to stderr.\n"]
    for name, command in _commands(typer.main.get_command(app)):
        parts.append(f"## shipway {name}\n\n{command.help}\n")
        rows = [_parameter(parameter) for parameter in command.params]
        if rows:
            parts.append(_table(["argument or option", "default", "what"], rows))
    parts.append("## Exit codes\n")
    parts.append(_table(["code", "meaning"], [(str(int(c)), w) for c, w in _EXITS.items()]))
    return "\n".join(parts)


def _commands(group: Any) -> Iterable[tuple[str, Any]]:
    """Every command with its whole name; those of a group after the group."""
    for name, command in group.commands.items():
        yield name, command
        for inner, own in _commands(command) if hasattr(command, "commands") else ():
            yield f"{name} {inner}", own


def _parameter(parameter: Any) -> tuple[str, str, str]:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`", _default(parameter), parameter.help or ""
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    return names, _default(parameter), parameter.help or ""


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    if isinstance(parameter.show_default, str):
        return f"`{parameter.show_default}`"
    return "" if parameter.default in (None, False, ()) else f"`{parameter.default}`"


def settings() -> str:
    """Every setting with its environment variable, default and meaning."""
    words = _attribute_docs(settings_module, "Settings")
    rows = [
        (f"`SHIPWAY_{name.upper()}`", _value(field.default), words[name])
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(
        [
            "# Settings\n",
            "Environment variables, read once when a process starts. Options of the command line come",
            "before them.\n",
            _table(["variable", "default", "what"], rows),
        ]
    )


def endpoint_spec() -> str:
    """Every key of an endpoint spec."""
    rows = [
        (f"`{field.name}`", _spec_default(field), _SPEC_WORDS[field.name])
        for field in msgspec.structs.fields(EndpointSpec)
    ]
    header = ["key", "default", "what"]
    nested = [_table(header, _inner_keys(key, kind)) for key, kind in _NESTED_SPECS.items()]
    return "\n".join(
        [
            "# EndpointSpec\n",
            "What `shipway apply -f` reads, one endpoint per YAML document. An unknown key is an error",
            "that names the nearest known one. `shipway schema` prints the JSON Schema, which the server",
            "also publishes at `/api/v1/schemas/endpoint`.\n",
            "```yaml\nname: churn\nmodel: churn@champion\nreplicas: 2\nplacement: process\n"
            "limits:\n  deadline_ms: 500\nwarm_s: 900\n```\n",
            _table(header, rows),
            *nested,
            _table(["placement", "what"], _choices("Placement")),
            _table(["residency", "what"], _choices("Residency")),
            _table(["how", "what"], _choices("How", capturing)),
            _table(["durability", "what"], _choices("Durability", capturing)),
            _table(["kind", "what"], _choices("MonitorKind", monitors)),
            _table(["boundary", "what a replica is kept from"], _boundaries()),
            *_rollout_keys(),
        ]
    )


_STAGES = {"canary": Canary, "blue_green": BlueGreen, "shadow": Shadow, "ab": Ab}
_GUARDS = {
    "error_rate": ErrorRate,
    "latency": Latency,
    "shift": Shift,
    "rejections": Rejections,
    "disagreement": Disagreement,
    "crashes": Crashes,
    "metrics[]": MetricGuard,
}


def _rollout_keys() -> list[str]:
    """The keys below `rollout`."""
    parts = [
        "## rollout\n",
        "```yaml\nname: churn\nmodel: churn@champion\nrollout:\n  success: fewer false alarms\n"
        "  stages:\n    - strategy: shadow\n      hold_s: 600\n    - strategy: canary\n"
        "      steps: [5, 25, 50]\n      hold_s: 120\n  guards:\n    latency:\n      max_ms: 80\n```\n",
        _plan_table("rollout", RolloutPlan),
    ]
    for name, kind in _STAGES.items():
        parts += [f"### strategy: {name}\n", f"{kind.__doc__}\n", _plan_table("", kind)]
    parts += ["### steps, sticky and segments\n", _plan_table("steps[]", Step)]
    parts += [_plan_table("sticky", Sticky), _plan_table("segments[]", Segment)]
    sources = [
        (f"`{k.lower()}`", text) for k, text in _attribute_docs(strategies, "Source").items()
    ]
    parts += [_table(["by", "what"], sources)]
    parts += ["### guards\n", f"{Guards.__doc__}\n", _plan_table("guards", Guards)]
    for name, kind in _GUARDS.items():
        parts += [f"`guards.{name}`: {kind.__doc__}\n", _plan_table(f"guards.{name}", kind)]
    return parts


def _plan_table(key: str, kind: type[msgspec.Struct]) -> str:
    words = _attribute_docs(strategies, kind.__name__)
    rows = [
        (
            f"`{key}.{field.name}`" if key else f"`{field.name}`",
            _plan_default(field),
            words[field.name],
        )
        for field in msgspec.structs.fields(kind)
        if field.name in words
    ]
    return _table(["key", "default", "what"], rows)


def _plan_default(field: Any) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required"
    if isinstance(field.default, tuple) and field.default and not isinstance(field.default[0], int):
        return "a canary"
    if isinstance(field.default, tuple):
        return f"`{list(field.default)}`" if field.default else ""
    return "on" if isinstance(field.default, msgspec.Struct) else _value(field.default)


_RULE_KINDS = (Threshold, Change, Anomaly, Absence, BurnRate)


def alerts() -> str:
    """Every key below `alerts` of an endpoint spec, and the default rules."""
    parts = [
        "# Alerts\n",
        "What `alerts` of an [EndpointSpec](endpoint-spec.md) may hold. [Alerts](../howto/alerts.md) says how"
        " they are used.\n",
        "## Default rules\n",
        "Every endpoint has them from its first moment; the last three are the server's.\n",
        _table(["rule", "severity", "fires when", "runbook"], _default_rules()),
        "## alerts\n",
        _alert_table("alerts", alert_plan, AlertPlan),
    ]
    for key, kind in (
        ("rules.NAME", Override),
        ("slos[]", Slo),
        ("notify[]", Notify),
        ("actions[]", Reaction),
    ):
        parts += [f"`{key}`: {kind.__doc__}\n", _alert_table(key, alert_plan, kind)]
    deeds = _attribute_docs(alert_plan, "Deed")
    parts.append(_table(["do", "what"], [(f"`{k.lower()}`", text) for k, text in deeds.items()]))
    parts += ["## Kinds of rule\n", "Each `extra` rule has a `kind`, and these keys:\n"]
    shared = _attribute_docs(alert_rules, "_Rule")
    parts.append(_alert_rows("extra[]", shared, Threshold))
    for kind in _RULE_KINDS:
        tag = cast(Any, kind).__struct_config__.tag
        parts.append(f"`kind: {tag}`: {kind.__doc__}\n")
        words = _attribute_docs(alert_rules, kind.__name__)
        parts.append(_alert_rows("extra[]", words, kind))
    return "\n".join(parts)


def _default_rules() -> list[tuple[str, ...]]:
    return [
        (
            f"`{rule.name}`",
            rule.severity.value,
            _WHEN[rule.name],
            f"[{rule.name}](../runbooks/{Path(runbook_of(rule.name, rule.runbook)).name})",
        )
        for rule in (*DEFAULT_RULES, *SERVER_RULES)
    ]


_WHEN = {
    "no-replicas": "the version that should serve cannot answer for 30 s",
    "error-rate": "more than 5 % of 20 requests or more in a minute fail, for 10 s",
    "latency": "p99 is 6 robust deviations, and half as much again, above the same time of past days",
    "rejections": "more than half of the requests in five minutes break the signature or are otherwise the caller's mistake, for 30 s",
    "overload": "more than 5 % of requests in two minutes are shed (429), for 30 s",
    "capture-loss": "a prediction that should have been kept was lost",
    "stuck-rollout": "a rollout stays longer in its step than its plan allows",
    "drift": "a drift monitor finds something",
    "prediction_drift": "a monitor of predictions finds something",
    "quality": "a data quality monitor finds something",
    "performance": "a monitor of live performance finds something",
    "multivariate": "a monitor of this kind finds something",
    "bias": "a monitor of this kind finds something",
    "monitor-failed": "a monitor could not come to a verdict",
    "budget": "a budget is, or will be, used up",
    "cost": "the last hour cost far more than the same hour of the days and weeks before",
    "gateway-down": "there are endpoints, and no gateway has reported for 15 s",
    DISK_RULE: f"the state directory's disk has less than {SPACE.low_pct:g} % (critical: {SPACE.full_pct:g} %) of its"
    f" inodes left, or of its bytes, which are also less than {SPACE.low_bytes >> 30}"
    f" ({SPACE.full_bytes >> 30}) GiB",
    CERTIFICATE_RULE: f"a certificate of control and the gateways beside it ends within {EXPIRES_SOON_S / 86400:g} days"
    f" (critical: {URGENT_S / 86400:g}), or cannot be used",
}


def _alert_table(key: str, module: Any, kind: type[msgspec.Struct]) -> str:
    return _alert_rows(key, _attribute_docs(module, kind.__name__), kind)


def _alert_rows(key: str, words: dict[str, str], kind: type[msgspec.Struct]) -> str:
    rows = [
        (f"`{key}.{field.name}`", _alert_default(field), words[field.name])
        for field in msgspec.structs.fields(kind)
        if field.name in words
    ]
    return _table(["key", "default", "what"], rows)


def _alert_default(field: Any) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required" if field.default_factory is msgspec.NODEFAULT else ""
    if isinstance(field.default, tuple):
        return "those of the SRE workbook" if field.default else ""
    return "" if field.default == "" else _value(field.default)


def environment_policy() -> str:
    """Every key of an environment's policy."""
    sections = [
        f"`{key}`: {inspect.getdoc(kind)}\n\n{_policy_table(key, kind)}"
        for key, kind in _POLICY.items()
    ]
    return "\n".join(
        [
            "# Environment policy\n",
            "What `shipway environment apply -f` reads, one environment per YAML document. An unknown key"
            " is an error that\nnames the nearest known one. `shipway schema environment` prints the JSON"
            " Schema, which the server also publishes at\n`/api/v1/schemas/environment`. [Promote and"
            " approve](../howto/promote-and-approve.md) says how it works.\n",
            f"```yaml\n{_POLICY_EXAMPLE}```\n",
            _policy_table("", EnvironmentPolicy),
            *sections,
            f"`checks.artifacts`: {Artifacts.__doc__}"
            " [Trust artifacts](../howto/trust-artifacts.md) says how it works.\n",
            _table(["artifacts", "what"], _artifacts()),
            f"`allowed_strategies`: {AllowedStrategy.__doc__} `none` is all at once;"
            f" {', '.join(f'`{one}`' for one in list(AllowedStrategy)[1:])} are those of"
            " [`rollout`](endpoint-spec.md).\n",
        ]
    )


def _artifacts() -> list[tuple[str, str]]:
    words = _attribute_docs(policy, "Artifacts")
    return [(f"`{one.value}`", words[one.name]) for one in Artifacts]


_POLICY_EXAMPLE = """\
name: production
from_environment: staging
checks:
  evaluations:
    - metric: roc_auc
      at_least: 0.85
      data: holdout.parquet
      max_age_days: 30
    - metric: recall
      at_least: 0.7
      slice: {column: region, value: north}
  latency: {p95_ms: 20}
  parity: true
  compatible_signature: true
  not_worse_than_live: true
  artifacts: safe-formats-only
  signers:
    - name: release-team
      key: |
        -----BEGIN PUBLIC KEY-----
        MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
        -----END PUBLIC KEY-----
approvals:
  required: 2
  by: [ada, ben, eve]
freeze:
  - {start: 2026-12-20T00:00:00Z, end: 2027-01-04T00:00:00Z, reason: holidays}
  - {days: [fri], from: "16:00"}
  - {days: [sat, sun]}
allowed_strategies: [canary, blue_green]
"""

_POLICY: dict[str, type[msgspec.Struct]] = {
    "checks": Checks,
    "checks.evaluations[]": EvaluationCheck,
    "checks.evaluations[].slice": SliceOf,
    "checks.latency": LatencyCheck,
    "checks.signers[]": Signer,
    "approvals": Approvals,
    "freeze[]": Freeze,
    "audit": AuditKeeping,
}


def _policy_table(key: str, kind: type[msgspec.Struct]) -> str:
    words = _attribute_docs(policy, kind.__name__)
    rows = [
        (
            f"`{key}.{field.encode_name}`" if key else f"`{field.encode_name}`",
            _policy_default(field.default),
            words[field.name],
        )
        for field in msgspec.structs.fields(kind)
    ]
    return _table(["key", "default", "what"], rows)


def _policy_default(default: Any) -> str:
    if default is msgspec.NODEFAULT:
        return "required"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return "" if isinstance(default, msgspec.Struct | tuple) or default == "" else _value(default)


_NESTED_SPECS: dict[str, type[msgspec.Struct]] = {
    "limits": Limits,
    "limits.rate": RateLimit,
    "sandbox": Sandbox,
    "scaling": Scaling,
    "cache": Cache,
    "fallback": Fallback,
    "budget": Budget,
    "capture": Capture,
    "capture.redact[]": Redact,
    "capture.key": Reading,
    "monitors[]": MonitorSpec,
    "monitors[].against": Against,
}


def _inner_keys(key: str, kind: type[msgspec.Struct]) -> list[tuple[str, str, str]]:
    words = _attribute_docs(sys.modules[kind.__module__], kind.__name__)
    return [
        (f"`{key}.{field.name}`", _spec_default(field), words[field.name])
        for field in msgspec.structs.fields(kind)
    ]


def _choices(name: str, module: Any = endpoints) -> list[tuple[str, str]]:
    return [(f"`{key.lower()}`", text) for key, text in _attribute_docs(module, name).items()]


def _boundaries() -> list[tuple[str, str]]:
    words = _attribute_docs(isolation, "Boundary")
    return [(f"`{key.lower()}`", text) for key, text in words.items()]


def _spec_default(field: Any) -> str:
    if field.default is msgspec.NODEFAULT:
        return "required"
    return "" if isinstance(field.default, Limits | Sandbox | tuple) else _value(field.default)


def _right(method: str, path: str) -> str:
    rule = rule_of(method, re.sub(r"{(path|request_id)}", r"{\1:path}", path))
    assert rule is not None, f"{method} {path} has no rule"
    if rule.right is None:
        return "-" if rule.about is About.NOTHING else "known"
    return f"{rule.right.value} ({rule.about.value})"


def api() -> str:
    """Every route of the control API."""
    services = Services(
        **dict.fromkeys(("registry", "audit", "staging", "now", "access"), cast(Any, None))
    )
    rows = [
        (
            f"`{method.upper()} {path}`",
            _right(method.upper(), path),
            operation.get("description", "").split("\n\n")[0],
        )
        for path, operations in create_app(services).openapi()["paths"].items()
        for method, operation in operations.items()
    ]
    return "\n".join(
        [
            "# Control API\n",
            "JSON over HTTP; the OpenAPI document is at `/api/v1/openapi.json`, and to try out at",
            "`/api/v1/docs`. Errors are `application/problem+json` with `code`, `detail`, `next_step` and",
            "the error's own facts; [errors](errors.md) lists the codes. Send a key as",
            "`Authorization: Bearer KEY`; [say who may do what](../howto/control-access.md) tells which roles",
            "there are. `right` is what a route wants, and on what; `-` is open to all, `known` to every caller.\n",
            _table(["route", "right", "what"], rows),
            "Gateways answer in several dialects; [call it your way](../howto/call-it-your-way.md) says what",
            "each takes. Errors have the shape of the path's dialect.\n",
            _table(["route", "what"], _GATEWAY_ROUTES),
        ]
    )


_GATEWAY_ROUTES = [
    ("`GET /v2`", "Open Inference v2: name, version and extensions of the server."),
    ("`GET /v2/health/live`, `GET /v2/health/ready`", "Whether the gateway lives, and can serve."),
    ("`GET /v2/models/{endpoint}`", "Inputs and outputs of an endpoint."),
    ("`GET /v2/models/{endpoint}/ready`", "200 while it can answer, 503 otherwise."),
    ("`POST /v2/models/{endpoint}/infer`", "A prediction: tensors, CSV, Arrow or Parquet."),
    ("`POST /v2/models/{endpoint}/generate`, `…/generate_stream`", "One row by name."),
    ("`GET /v2/models[/{endpoint}]/stats`", "What this gateway counted of each version."),
    ("`… /versions/{number}…`", "The same for one version behind the endpoint."),
    ("`POST /v2/repository/index`", "Endpoints with their versions and states."),
    ("`POST /v2/repository/models/{endpoint}/load`", "200 once the endpoint is ready."),
    ("`POST /v2/repository/models/{endpoint}/unload`", "409: `shipway delete` does that."),
    (
        "`GET /v1/models[/{endpoint}[/versions/{number}][/metadata]]`",
        "TF Serving and KServe v1: status.",
    ),
    (
        "`POST /v1/models/{endpoint}[/versions/{number} or /labels/{label}]:{verb}`",
        "`predict`, `classify` or `regress`.",
    ),
    ("`POST, PUT /predictions/{endpoint}[/{number}]`", "TorchServe: a prediction."),
    ("`GET /models[/{endpoint}]`", "TorchServe: what is loaded."),
    (
        "`POST /endpoints/{endpoint}/invocations`",
        "MLflow: a prediction; also under `/gateway`, `/models`.",
    ),
    (
        "`GET /api/2.0/endpoints[/{endpoint}]`, `GET /version`",
        "MLflow: endpoints; protocol release.",
    ),
    ("`GET /ping`, `GET /health`, `GET /`", "Whether the gateway lives."),
    ("`POST /invocations`, `GET /ping`", "SageMaker, MLflow: with `shipway gateway --as`."),
    (
        "`POST $AIP_PREDICT_ROUTE`, `GET $AIP_HEALTH_ROUTE`",
        "Vertex AI: with `shipway gateway --as`.",
    ),
]


def errors_page() -> str:
    """Every error with its code, HTTP status and exit code."""
    rows = [_error(kind) for kind in _tree(ShipwayError) if kind.__module__ == errors.__name__]
    return "\n".join(
        [
            "# Errors\n",
            "The same error is an exception in Python (`shipway.core.errors`), a problem+json answer over",
            "HTTP, a status over gRPC, and a line with an exit code on the command line.\n",
            _table(["code", "class", "HTTP", "gRPC", "exit", "what"], rows),
        ]
    )


def _error(kind: type[ShipwayError]) -> tuple[str, ...]:
    words: Words = MESSAGES[kind]
    what = " ".join((kind.__doc__ or "").split())
    status = str(status_of(kind("")))
    exit_code = str(int(words.exit_code))
    return f"`{kind.code}`", f"`{kind.__name__}`", status, code_of(kind("")).name, exit_code, what


def _tree(kind: type[ShipwayError]) -> Iterable[type[ShipwayError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)


def sdk() -> str:
    """Every method of the client."""
    parts = [
        "# Python SDK\n",
        "`shipway.Client` and `shipway.AsyncClient` (the same methods, awaited; `aclose`, and",
        "`gateway_url` is a method). Answers are frozen structs of `shipway.client.answers`; errors are",
        "those of [errors](errors.md).\n",
        f"## Client\n\n{inspect.cleandoc(Client.__doc__ or '')}\n",
    ]
    for name, member in vars(Client).items():
        if name.startswith("_"):
            continue
        is_property = isinstance(member, property)
        function = cast(Any, member.fget if isinstance(member, property) else member)
        doc = inspect.cleandoc(function.__doc__ or "")
        signature = "" if is_property else _signature(function)
        parts.append(f"### {name}\n\n```python\nclient.{name}{signature}\n```\n\n{_fenced(doc)}\n")
    parts.append(f"## Options of `register`\n\n```text\n{inspect.getdoc(PackOptions)}\n```\n")
    parts.append(f"## Options of `evaluate`\n\n```text\n{inspect.getdoc(EvaluateOptions)}\n```\n")
    parts.append(f"## Fields of `feedback`\n\n```text\n{inspect.getdoc(TruthFields)}\n```\n")
    parts.append(f"## Filters of `audit`\n\n```text\n{inspect.getdoc(AuditFilters)}\n```\n")
    parts.append(f"## Filters of `predictions`\n\n```text\n{inspect.getdoc(LogFilters)}\n```\n")
    parts.append(f"## Fields of `add_channel`\n\n```text\n{inspect.getdoc(ChannelFields)}\n```\n")
    return "\n".join(parts)


def _signature(function: Callable[..., Any]) -> str:
    own = inspect.signature(function)
    shown = own.replace(parameters=[p for p in own.parameters.values() if p.name != "self"])
    text = re.sub(r"'([^'()>=]+)'", r"\1", str(shown))
    return re.sub(r"<function (\w+) at 0x\w+>", r"\1", text)


def _fenced(doc: str) -> str:
    """A docstring whose Args and Raises sections keep their lines."""
    head, mark, rest = re.split(r"\n\n(?=(Args|Raises):)", doc, maxsplit=1)[0], "", ""
    if len(head) < len(doc):
        mark, rest = "\n\n```text\n", doc[len(head) :].strip() + "\n```"
    return head + mark + rest


def _attribute_docs(module: Any, name: str) -> dict[str, str]:
    """The strings below a class's attributes, which Python itself does not keep."""
    tree = ast.parse(inspect.getsource(module))
    body = next(n.body for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    found: dict[str, str] = {}
    for before, after in pairwise(body):
        text = ast.get_docstring(ast.Module([after], [])) if isinstance(after, ast.Expr) else None
        target = before.target if isinstance(before, ast.AnnAssign) else None
        if isinstance(before, ast.Assign):
            target = cast(Any, before.targets[0])
        if text is not None and isinstance(target, ast.Name):
            found[target.id] = " ".join(text.split())
    return found


def _value(value: object) -> str:
    if value is None:
        return ""
    return f"`{value.value if isinstance(value, StrEnum) else value}`"


def _table(columns: list[str], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    cells = ([cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def _families(families: Iterable[Family]) -> list[tuple[str, str, str, str]]:
    return [
        (f"`{f.name}`", f.kind, ", ".join(f"`{label}`" for label in f.labels), f.help)
        for f in families
    ]


def _measures(is_listed: Callable[[str], bool]) -> list[tuple[str, str, str]]:
    listed = (one for one in MEASURES.values() if is_listed(one.name))
    return [(f"`{one.name}`", one.unit, one.help) for one in listed]


def metrics_page() -> str:
    """Every metric of both `GET /metrics`, the outcomes, and the measures of the history."""
    rows = _families(FAMILIES)
    words = _attribute_docs(telemetry, "Outcome")
    outcomes = [(f"`{outcome.name.lower()}`", words[outcome.name]) for outcome in Outcome]
    return "\n".join(
        [
            "# Metrics\n",
            "`GET /metrics` on any gateway gives the sums over all gateways of the machine, in"
            " Prometheus text format 0.0.4.\n",
            _table(["metric", "kind", "labels", "what"], rows),
            "## Outcomes\n",
            _table(["outcome", "when"], outcomes),
            _METRICS_WORDS.format(bounds=", ".join(f"{bound:g}" for bound in BOUNDS_S)),
            "## Of control\n",
            "`GET /metrics` on control, for who may read the whole server. What has nothing to say is left"
            " out: rollouts when none is under way, GPUs where there are none.\n",
            _table(["metric", "kind", "labels", "what"], _families(exposition.FAMILIES)),
            "## Measures\n",
            _MEASURES_WORDS,
            _table(["measure", "unit", "what"], _measures(lambda name: name not in OF_SERVER)),
            "Of Shipway's own processes, in `shipway top`:\n",
            _table(["measure", "unit", "what"], _measures(OF_SERVER.__contains__)),
        ]
    )


PAGES: dict[str, Callable[[], str]] = {
    "cli.md": cli,
    "settings.md": settings,
    "endpoint-spec.md": endpoint_spec,
    "environment-policy.md": environment_policy,
    "alerts.md": alerts,
    "api.md": api,
    "errors.md": errors_page,
    "sdk.md": sdk,
    "metrics.md": metrics_page,
}


def page(name: str) -> str:
    """The text of a page, as the code has it now."""
    return _MADE + PAGES[name]()


if __name__ == "__main__":
    for name in PAGES:
        (HERE / name).write_text(page(name))
