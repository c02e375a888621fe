"""The version that another is compared with: what serves now, or the one that was named."""

from __future__ import annotations

import msgspec

from shipway.client import calls
from shipway.client.answers import Place, Version
from shipway.client.evaluating.held_out import HeldOut
from shipway.client.evaluating.question import LIVE, NOBODY, PREFIX, Question
from shipway.client.evaluating.subjects import Intake, Subject, intake_of, subject_of
from shipway.client.exchange import Flow, one
from shipway.core.errors import InvalidRequest
from shipway.core.versions import parse_version


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """A version that can be compared, and what it is asked with."""

    version: Version
    subject: Subject
    intake: Intake


def rival_of(question: Question, subject: Subject, held: HeldOut) -> Flow[tuple[Rival | None, str]]:
    """The rival, or None and why there is none.

    A live version that cannot be compared is passed over; one that was named is insisted on.

    Raises:
        InvalidRequest: the named version takes other columns or has other classes, or several
            versions are live.
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
    """
    if question.against == NOBODY:
        return None, ""
    is_named = question.against != LIVE
    name = question.against if is_named else (yield from _live(subject))
    if name is None:
        return None, "No version of the model is live: there is nothing to compare with."
    version = yield from one(calls.version(parse_version(name)))
    if str(version) == subject.name:
        return None, f"{version} is the {'rival' if is_named else 'live version'} itself."
    try:
        rival = _comparable(version, question, subject, held)
    except InvalidRequest as reason:
        if is_named:
            raise
        return None, f"Not compared with {version}, which is live: {reason.message}"
    return rival, ""


def _live(subject: Subject) -> Flow[str | None]:
    """The primary behind the endpoint of the model's name, else the only primary there is."""
    model = parse_version(subject.name).model
    here = (yield from one(calls.status())).environment
    places: tuple[Place, ...] = yield from one(calls.where(model))
    primaries = {
        place.endpoint: place.version
        for place in places
        if place.role == "primary"
        and place.environment == here
        and not place.endpoint.startswith(PREFIX)
    }
    if model in primaries:
        return primaries[model]
    if len(set(primaries.values())) > 1:
        said = ", ".join(f"`{version}` behind `{name}`" for name, version in primaries.items())
        raise InvalidRequest(
            f"Several versions are live: {said}.",
            next_step="Say which one to compare with: `--against churn:1`.",
        )
    return next(iter(primaries.values()), None)


def _comparable(version: Version, question: Question, subject: Subject, held: HeldOut) -> Rival:
    other = subject_of(version, question.task)
    if other.task is not subject.task or other.classes != subject.classes:
        raise InvalidRequest(
            f"`{version}` has other classes than `{subject.name}`, or answers another question.",
            next_step="Evaluate each on its own, with `--against none`.",
        )
    intake = intake_of(other, held, label=question.label, slices=question.slices)
    return Rival(version=version, subject=other, intake=intake)
