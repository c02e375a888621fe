"""How what a gateway saw of a request is entered into the accounts of a rollout."""

from __future__ import annotations

from shipway.core.errors import CallerError, DeadlineExceeded, QueueFull, ShipwayError
from shipway.core.evidence import MOST_PAIRS, Account, Buckets, Pair, Pairs, bucket_of, count_label
from shipway.core.summaries import Summary, difference

LONGEST_ERROR = 300


def is_refusal(error: ShipwayError) -> bool:
    """Whether the version found fault with the request itself."""
    return isinstance(error, CallerError) and not isinstance(error, QueueFull | DeadlineExceeded)


def note_answer(account: Account, summary: Summary) -> None:
    """Enters an answer; how long it took is for `stalls.Seconds`."""
    account.answered += 1
    if summary.label is not None:
        count_label(account.labels, summary.label)
    if summary.score is not None:
        _count(account.scores, bucket_of(summary.score))


def note_error(account: Account, error: ShipwayError) -> None:
    """Enters a request that the version did not answer; for a refusal, one that the primary took."""
    if isinstance(error, QueueFull):
        account.shed += 1
        return
    if is_refusal(error):
        account.rejected += 1
    else:
        account.failed += 1
    account.last_error = f"{error.code}: {error.message}"[:LONGEST_ERROR]


def note_pair(
    pairs: Pairs, primary: Summary, candidate: Summary, *, tolerance: float, delay_s: float | None
) -> float:
    """Enters a request that both answered; gives the distance of the two answers.

    `delay_s` is the candidate's seconds less the primary's, None where the primary's model was not run.
    """
    apart = difference(primary, candidate)
    is_other = primary.label != candidate.label
    pairs.compared += 1
    pairs.agreed += not is_other and apart <= tolerance
    _count(pairs.distances, bucket_of(apart))
    if delay_s is not None:
        _count(pairs.delays, bucket_of(delay_s))
    return is_other + apart


def is_among_worst(pairs: Pairs, distance: float) -> bool:
    """Whether a pair so far apart is kept."""
    worst = pairs.worst
    return distance > 0 and (len(worst) < MOST_PAIRS or distance > worst[-1].distance)


def keep_pair(pairs: Pairs, pair: Pair) -> None:
    """Keeps a pair among the worst, the worst first."""
    pairs.worst.append(pair)
    pairs.worst.sort(key=_distance, reverse=True)
    del pairs.worst[MOST_PAIRS:]


def _distance(pair: Pair) -> float:
    return pair.distance


def _count(buckets: Buckets, bucket: int) -> None:
    buckets[bucket] = buckets.get(bucket, 0) + 1
