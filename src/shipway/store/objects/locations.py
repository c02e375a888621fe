"""From an artifacts URL to an object store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import LocalStore, ObjectStore, S3Store, from_url

from shipway.core.errors import StoreUnavailable
from shipway.core.masking import masked
from shipway.store.state import usable_directory

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60)}
_RETRY: RetryConfig = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
_NEXT_STEP = "Use `s3://bucket/prefix`, `gs://bucket/prefix`, `az://…` or `file:///path`."


def opened(url: str, *, environment: Mapping[str, str]) -> tuple[ObjectStore, Path | None]:
    """The object store behind a URL, and its directory when it is a local one.

    `environment` holds the provider's own variables (`AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` …); keys
    and regions that are not in it are found the way the provider's tools find them.

    Raises:
        StoreUnavailable: the URL is malformed or of an unknown kind.
        StateUnusable: a local directory cannot be written.
    """
    parts = urlsplit(url)
    if parts.scheme in {"", "file"}:
        directory = usable_directory(Path(unquote(parts.path) if parts.scheme else url))
        return LocalStore(directory), directory
    try:
        if parts.scheme in {"s3", "s3a"}:
            return _s3(url, environment), None
        # What a file held is not in this process's environment, where obstore finds the rest.
        wanted = _AZURE_SECRETS & environment.keys() if parts.scheme in _AZURE else ()
        given = {name.lower(): environment[name] for name in wanted}
        return from_url(url, config=given, client_options=_CLIENT, retry_config=_RETRY), None  # type: ignore[call-overload]  # its overloads name each store
    except (BaseError, ValueError) as exc:
        raise StoreUnavailable(
            f"`{masked(url)}` is not an artifact store: {_first_line(exc)}.", next_step=_NEXT_STEP
        ) from None  # the cause may quote the URL, or the credentials beside it


def _first_line(exc: Exception) -> str:
    """The lines below show the parsed URL part by part, the password too."""
    return masked(next(iter(str(exc).splitlines()), type(exc).__name__)).rstrip(".")


def _s3(url: str, environment: Mapping[str, str]) -> S3Store:
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    allowed = environment.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes"}
    options: ClientConfig = {**_CLIENT, "allow_http": allowed or endpoint.startswith("http://")}
    config = {
        name.lower(): value
        for name, value in environment.items()
        if name in _S3_VARIABLES and value
    }
    if endpoint:
        config["aws_endpoint_url"] = endpoint
    # Keys come from the environment: obstore checks them, its TypedDict cannot.
    return S3Store.from_url(url, config=config, client_options=options, retry_config=_RETRY)  # type: ignore[arg-type]


_AZURE = {"az", "azure", "adl", "abfs", "abfss"}
_AZURE_SECRETS = {"AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_SAS_TOKEN", "AZURE_CLIENT_SECRET"}
_S3_VARIABLES = {
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
}
