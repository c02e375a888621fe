"""An evaluation, from the data to the record that is kept of it. No I/O of its own."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import msgspec

from shipway.client import calls, flows
from shipway.client.answers import Prediction
from shipway.client.evaluating.collecting import Answers, Truth
from shipway.client.evaluating.held_out import HeldOut, held_out
from shipway.client.evaluating.judging import verdict_of
from shipway.client.evaluating.latency import latency_profile
from shipway.client.evaluating.metrics import require_sklearn
from shipway.client.evaluating.question import Question
from shipway.client.evaluating.rivals import rival_of
from shipway.client.evaluating.stands import Stands, leftovers_removed
from shipway.client.evaluating.subjects import Intake, intake_of, subject_of
from shipway.client.exchange import Call, Flow, Pause, Work, one
from shipway.client.session import Session
from shipway.client.tables import inputs_of
from shipway.client.trust import context_of
from shipway.client.upload import OnProgress
from shipway.core.errors import (
    InvalidInput,
    InvalidRequest,
    NoReadyReplica,
    QueueFull,
    RateLimited,
    ReplicaLost,
)
from shipway.core.evaluations import Evaluation, Findings, LatencyProfile
from shipway.core.tensors import Array, DataType
from shipway.core.versions import parse_version

_ATTEMPTS = 3
_PAUSE_S = 0.5
_TIMEOUT_S = 310.0
_LOAD_ROWS = 100


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One version that is asked: behind which endpoint, with which columns, and what it answers."""

    endpoint: str
    intake: Intake
    answers: Answers


class Examination(msgspec.Struct, frozen=True, kw_only=True):
    """All that an evaluation works on. The first of `asked` is judged, a second is its rival."""

    question: Question
    data: HeldOut
    truth: Truth
    asked: tuple[Asked, ...]
    notes: tuple[str, ...]
    on_progress: OnProgress

    def columns(self) -> dict[str, DataType]:
        """The columns that are read, with the types that they have in a text file."""
        subject = self.asked[0].answers.subject
        found = dict.fromkeys(self.question.slices, DataType.STRING)
        for one_asked in self.asked:
            found |= one_asked.intake.columns
        return found | {self.question.label: subject.label_type}


def evaluated(
    session: Session, stands: Stands, question: Question, data: Any, *, on_progress: OnProgress
) -> Flow[Evaluation]:
    """Asks the version for every row, judges its answers, and keeps what was found.

    Whoever runs it takes the stands down afterwards, however it ended.
    """
    yield Work(require_sklearn)
    yield from leftovers_removed()
    on_progress("data", 0, 0)
    held = yield Work(partial(held_out, data))
    examination = yield from _prepared(stands, question, held, on_progress)
    first = yield from _answered(session, examination)
    latency = None
    if question.load:
        latency = yield from _latency(session, examination, first)
    yield from stands.taken_down()
    findings = yield Work(partial(_findings, examination, latency))
    version = parse_version(examination.asked[0].answers.subject.name)
    return (yield from one(calls.keep_evaluation(version, findings)))


def _prepared(
    stands: Stands, question: Question, held: HeldOut, on_progress: OnProgress
) -> Flow[Examination]:
    """Everything checked first, and then the versions put up."""
    version = yield from one(calls.version(parse_version(question.version)))
    subject = subject_of(version, question.task)
    intake = intake_of(subject, held, label=question.label, slices=question.slices)
    rival, note = yield from rival_of(question, subject, held)
    truth = Truth(subject, label=question.label, slices=question.slices)
    on_progress(f"start {version}", 0, 0)
    endpoint = yield from stands.put_up(version, callers=question.load)
    asked = [Asked(endpoint=endpoint, intake=intake, answers=Answers(subject, truth))]
    if rival is not None:
        on_progress(f"start {rival.version}", 0, 0)
        endpoint = yield from stands.put_up(rival.version)
        answers = Answers(rival.subject, truth)
        asked.append(Asked(endpoint=endpoint, intake=rival.intake, answers=answers))
    found = Examination(
        question=question,
        data=held,
        truth=truth,
        asked=tuple(asked),
        notes=(note,) if note else (),
        on_progress=on_progress,
    )
    unused = [name for name in held.names if name not in found.columns()]
    return msgspec.structs.replace(found, notes=(*found.notes, *_unused_note(unused)))


def _unused_note(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    shown = ", ".join(name[:60] for name in names[:8])
    return (f"Columns not used: {shown}{f' and {len(names) - 8} more' * (len(names) > 8)}.",)


def _answered(session: Session, examination: Examination) -> Flow[dict[str, Array]]:
    """Every row asked of every version; the first batch, for what comes after."""
    data, truth = examination.data, examination.truth
    batches = data.batches(examination.columns(), most_rows=_most_rows(examination.asked))
    first: dict[str, Array] = {}
    while (batch := (yield Work(partial(next, batches, None)))) is not None:
        first = first or batch
        before = truth.rows
        truth.add(batch)
        for asked in examination.asked:
            prediction = yield from _predicted(session, asked, batch, data.rows_said(before, batch))
            asked.answers.add(prediction, first_row=before, rows=truth.rows - before)
        examination.on_progress("rows", truth.rows, data.rows)
    if not truth.rows:
        raise InvalidRequest(
            f"{data.origin} has no rows.", next_step="Give rows with the model's inputs and truth."
        )
    return first


def _most_rows(asked: Sequence[Asked]) -> int:
    return min(one_asked.answers.subject.rows_at_once for one_asked in asked)


def _predicted(
    session: Session, asked: Asked, batch: dict[str, Array], rows: str
) -> Flow[Prediction]:
    """The answer to a batch; a replica that was lost or is busy is asked again."""
    inputs = asked.intake.inputs(batch)
    attempt = 1
    while True:
        try:
            return (
                yield from flows.predict(
                    session,
                    asked.endpoint,
                    inputs,
                    outputs=None,
                    request_id="",
                    timeout_s=_TIMEOUT_S,
                )
            )
        except (QueueFull, RateLimited, NoReadyReplica, ReplicaLost):
            if attempt == _ATTEMPTS:
                raise
            yield Pause(_PAUSE_S * attempt)
            attempt += 1
        except (InvalidInput, InvalidRequest) as refusal:
            name = asked.answers.subject.name
            raise type(refusal)(
                f"`{name}` refuses {rows}: {refusal.message}",
                next_step=refusal.next_step,
                **refusal.details,
            ) from refusal


def _latency(
    session: Session, examination: Examination, first: dict[str, Array]
) -> Flow[LatencyProfile]:
    asked = examination.asked[0]
    metadata = yield from session.metadata(asked.endpoint)
    inputs = asked.intake.inputs(first)
    rows = min(_LOAD_ROWS, *(len(array) for array in inputs.values()))
    requests: list[Call[Any]] = []
    for row in range(rows):
        one_row = {name: array[row : row + 1] for name, array in inputs.items()}
        call = calls.infer(asked.endpoint, inputs_of(one_row, metadata.inputs))
        requests.append(msgspec.structs.replace(call, headers=session.headers(call)))
    profile: LatencyProfile = yield Work(
        partial(
            latency_profile,
            session.gateway_url or "",
            requests,
            tls=partial(context_of, session.addresses, session.gateway_url or ""),
            callers=examination.question.load,
            on_progress=examination.on_progress,
        )
    )
    return profile


def _findings(examination: Examination, latency: LatencyProfile | None) -> Findings:
    question, data = examination.question, examination.data
    subject, *others = (one_asked.answers.subject for one_asked in examination.asked)
    judged, *rivals = (one_asked.answers.judged() for one_asked in examination.asked)
    verdict = verdict_of(
        judged,
        columns=examination.truth.slices(),
        rival=(others[0].name, rivals[0]) if rivals else None,
        on_progress=examination.on_progress,
    )
    left_out = [note for one_asked in examination.asked for note in one_asked.answers.notes]
    return Findings(
        digest=subject.digest,
        task=subject.task,
        label=question.label,
        data=data.origin,
        data_sha256=data.sha256,
        rows=judged.rows,
        resamples=verdict.resamples,
        measures=verdict.measures,
        slices=verdict.slices,
        against=verdict.against,
        latency=latency,
        notes=(*examination.notes, *left_out, *verdict.notes),
    )
