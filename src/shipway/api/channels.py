"""Routes of channels, which are told of alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from shipway.api.guard import Actor, Caller, require
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import Services, UsesServices
from shipway.control.alerting.channels import ChannelRequest, ChannelView
from shipway.control.changes import Request
from shipway.core.access import (
    SERVER,
    Principal,
    Right,
    lacking,
    permits_within,
    project_of,
)
from shipway.core.errors import NotFound

router = APIRouter(tags=["alerts"])
ANSWERS = [ChannelView, ChannelRequest]


@router.get("/channels", responses={200: answers(list[ChannelView], "In the order of names.")})
def list_channels(services: UsesServices, caller: Caller) -> Response:
    """The channels that the caller administers, with what became of their messages."""
    return answer([one for one in services.channels.list() if _administers(caller, one.name)])


@router.post(
    "/channels",
    status_code=201,
    responses={201: answers(ChannelView, "The channel, with its secret, shown this once.")},
    openapi_extra=takes(ChannelRequest),
)
def add_channel(
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    wanted: Annotated[ChannelRequest, body_of(ChannelRequest)],
) -> Response:
    """Makes a channel, in place of one of its name."""
    if wanted.everywhere or _is_everywhere(services, wanted.name):
        require(caller, Right.ADMINISTER, SERVER)
    elif not _administers(caller, wanted.name):
        raise lacking(caller, Right.ADMINISTER, SERVER)
    made = services.channels.add(wanted, Request(actor=actor, now=services.now()))
    return answer(made, status=201)


@router.post("/channels/{channel}/test", responses={200: answers(ChannelView, "It arrived.")})
def test_channel(channel: str, services: UsesServices, caller: Caller, actor: Actor) -> Response:
    """Sends a message that says that nothing is wrong."""
    _require(services, caller, channel)
    return answer(services.channels.test(channel, Request(actor=actor, now=services.now())))


@router.delete("/channels/{channel}", responses={200: answers(ChannelView, "The channel.")})
def remove_channel(channel: str, services: UsesServices, caller: Caller, actor: Actor) -> Response:
    """Forgets a channel."""
    _require(services, caller, channel)
    return answer(services.channels.remove(channel, Request(actor=actor, now=services.now())))


def _administers(caller: Principal, channel: str) -> bool:
    return permits_within(caller, Right.ADMINISTER, project_of(channel))


def _is_everywhere(services: Services, channel: str) -> bool:
    """Whether a channel of that name is told of all projects."""
    return any(one.name == channel and one.everywhere for one in services.channels.list())


def _require(services: Services, caller: Principal, channel: str) -> None:
    """Lets pass who administers the channel's project, or all of them; to others it is not there.

    Raises:
        NotFound: the caller does not.
        Forbidden: it is told of all projects, and the caller administers only some.
    """
    if not _administers(caller, channel):
        raise NotFound(
            f"There is no channel `{channel}`.",
            next_step="`shipway alerts channels list` has them.",
        )
    if _is_everywhere(services, channel):
        require(caller, Right.ADMINISTER, SERVER)
