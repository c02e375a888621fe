"""How Prometheus scrapes gateways and control."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def document(
    gateways: Iterable[str],
    control: str,
    *,
    key_file: str,
    ca_file: str | None,
    rule_file: str,
    interval: str,
) -> dict[str, Any]:
    """The configuration, as Prometheus reads it once it is written as YAML.

    `gateways` and `control` are URLs. One gateway's page has the counts of all gateways of its machine:
    name one address for each machine.
    """
    return {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": [rule_file],
        "scrape_configs": [
            _job("shipway-gateway", gateways, key_file=key_file, ca_file=ca_file),
            _job("shipway-control", [control], key_file=key_file, ca_file=ca_file),
        ],
    }


def _job(name: str, urls: Iterable[str], *, key_file: str, ca_file: str | None) -> dict[str, Any]:
    parts = [url.rstrip("/").partition("://") for url in urls]
    scheme = parts[0][0] if parts else "http"
    job: dict[str, Any] = {
        "job_name": name,
        "scheme": scheme,
        "authorization": {"credentials_file": key_file},
        "static_configs": [{"targets": [address for _, _, address in parts]}],
    }
    if scheme == "https" and ca_file is not None:
        job["tls_config"] = {"ca_file": ca_file}
    return job
