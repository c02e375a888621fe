"""Routes of scans, signatures and verification."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from shipway.api.guard import Actor
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.models import query_of
from shipway.api.services import UsesServices
from shipway.control.trust import SignatureRequest, TrustView, Verification

_MOST_BYTES = 32 * 1024 * 1024
"""A statement names every file of the bundle."""

router = APIRouter(tags=["models"])
ANSWERS = [TrustView, SignatureRequest, Verification]


@router.get(
    "/models/{model}/versions/{version}/trust",
    responses={200: answers(TrustView, "What is known of its bytes.")},
)
def show_trust(model: str, version: str, services: UsesServices) -> Response:
    """What the scan of a version's bytes found, and who signed them."""
    return answer(services.trust.of(query_of(model, version)))


@router.post(
    "/models/{model}/versions/{version}/signatures",
    status_code=201,
    responses={201: answers(TrustView, "Kept.")},
    openapi_extra=takes(SignatureRequest),
)
def sign(
    model: str,
    version: str,
    services: UsesServices,
    actor: Actor,
    body: Annotated[SignatureRequest, body_of(SignatureRequest, most_bytes=_MOST_BYTES)],
) -> Response:
    """Keeps a signature of a version's bytes; whose signature counts is what a policy says."""
    query = query_of(model, version)
    kept = services.trust.sign(query, body, actor=actor, now=services.now())
    return answer(kept, status=201)


@router.get(
    "/models/{model}/versions/{version}/verification",
    responses={200: answers(Verification, "Every byte is as it was registered.")},
)
def verify(model: str, version: str, services: UsesServices) -> Response:
    """Reads all stored bytes of a version and compares them with its digest."""
    return answer(services.trust.verified(query_of(model, version)))
