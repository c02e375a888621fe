"""The use cases and the reconciler of control, built from settings."""

from __future__ import annotations

import asyncio
import os
from functools import partial

from shipway.api.services import Services
from shipway.api.uploads import UploadLimits
from shipway.backends.process import ProcessBackend
from shipway.backends.secrets import SecretSource
from shipway.bootstrap.clock import clock
from shipway.bundles.scanning.bundle import Rules
from shipway.bundles.scanning.process import Scanner
from shipway.control.access import LOCAL_KEYS, Access
from shipway.control.audit import AuditLog
from shipway.control.capacity import Capacity
from shipway.control.endpoints import Endpoints
from shipway.control.environments import Environments
from shipway.control.evaluations import Evaluations
from shipway.control.local_versions import LocalVersions
from shipway.control.promotions import Promotions
from shipway.control.pruning import Pruning
from shipway.control.reconciler import Reconciler
from shipway.control.registry import Registry
from shipway.control.rollouts import Rollouts
from shipway.control.seals import Seals
from shipway.control.trust import Trust
from shipway.settings import (
    Settings,
    provider_variables,
    secret_rules,
)
from shipway.store.api_keys import kept_key, new_key_text
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database
from shipway.store.staging import Staging
from shipway.wire.tokens import TokenRules


def access_of(settings: Settings, database: Database) -> Access:
    """Who may do what; with access control, this machine's own keys are there afterwards."""
    access = Access(database, environment=settings.environment, is_on=settings.auth)
    if settings.auth:
        local = {
            name: (kept_key(settings.state_dir, name, new_key_text()), grants)
            for name, grants in LOCAL_KEYS.items()
        }
        access.ensure_local(local, clock())
    return access


def token_rules_of(settings: Settings) -> TokenRules:
    """What tokens of the identity provider must say."""
    return TokenRules(
        issuer=settings.oidc_issuer or "",
        audience=settings.oidc_audience,
        name_claim=settings.oidc_name_claim,
        groups_claim=settings.oidc_groups_claim,
    )


def artifacts_of(settings: Settings) -> ArtifactStore:
    """Where bundles, predictions and reports are kept."""
    url = settings.artifacts_url or str(settings.state_dir / "artifacts")
    return ArtifactStore(url, environment=provider_variables())


def reconciler_of(
    settings: Settings, database: Database, access: Access
) -> tuple[Reconciler, ProcessBackend, Registry, Trust]:
    """The reconciler, with the backend, the registry and the trust that it stands on."""
    state_dir = settings.state_dir
    artifacts = artifacts_of(settings)
    rules = Rules(imports=settings.imports, domains=settings.onnx_domains)
    registry = Registry(database, artifacts, scanner=Scanner(rules))
    trust = Trust(database, partial(artifacts.materialise, cache_dir=state_dir / "cache"))
    backend = ProcessBackend(
        state_dir, clock=clock, secrets=SecretSource(secret_rules(settings), os.environ)
    )
    backend.log_format = settings.log_format
    reconciler = Reconciler(
        database,
        backend,
        access=access,
        local=partial(
            LocalVersions,
            version=registry.version,
            materialise=partial(trust.materialised, environment=settings.environment),
        ),
        environment=settings.environment,
        clock=clock,
        memory=state_dir / "run" / "published.json",
        capacity=Capacity(budget_mb=settings.memory_budget_mb),
    )
    backend.on_change = reconciler.poke
    return reconciler, backend, registry, trust


def services_of(
    settings: Settings,
    database: Database,
    reconciler: Reconciler,
    backend: ProcessBackend,
    registry: Registry,
    access: Access,
) -> Services:
    """The use cases that the API calls, as far as they are about models and endpoints."""
    loop = asyncio.get_running_loop()

    def poke() -> None:
        # Use cases run in worker threads.
        loop.call_soon_threadsafe(reconciler.poke)

    access.poke = poke
    endpoints = Endpoints(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
        read_log=backend.read_log,
        memory_budget_mb=settings.memory_budget_mb,
        secret_rules=secret_rules(settings),
    )
    rollouts = Rollouts(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
    )
    seals = Seals(database, settings.state_dir)
    return Services(
        registry=registry,
        rollouts=rollouts,
        evaluations=Evaluations(database),
        audit=AuditLog(database),
        seals=seals,
        pruning=Pruning(seals),
        staging=Staging(settings.state_dir / "staging"),
        now=clock,
        access=access,
        endpoints=endpoints,
        reconciler=reconciler,
        environments=Environments(database),
        promotions=Promotions(database),
        replicas_of=endpoints.replicas_of,
        upload_limits=UploadLimits(max_bytes=settings.max_bundle_bytes),
    )
