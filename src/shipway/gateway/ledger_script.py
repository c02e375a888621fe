"""The decision of `core.rates` inside Valkey, where it is one step for all gateways.

A key, project or endpoint has a hash (`spent`, `at`, `day`, `requests`, `units`, see `core.rates.Use`) and,
where concurrency is bounded, a sorted set of the visits under way by the time at which each has ended in any
case: a gateway that is killed blocks nobody for longer. Time is Valkey's own.

One call decides about many visits, in their order, after others have left:

    departures, (id of a visit)...                       KEYS: its sorted set
    visits, (bounds, cost, id, lasts_s,                  KEYS: hash and sorted set of each bound
        (burst, per_s, max_concurrency, daily_requests, daily_budget, day, requests, units)...)...

A limit that is not given is -1. The last three are what a gateway knows to be used: a Valkey that lost its
memory, or was away, goes on from there. The reply has the time, then five numbers for each bound, as they
were before the visit was charged: spent, day, requests, units, inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from shipway.core.rates import DAY_S, ROUNDING, CallerLimits, Use
from shipway.gateway.ledger import Bound, Visit

SCRIPT = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local today = math.floor(now / {DAY_S})
local arg, key = 0, 0
local function text() arg = arg + 1; return ARGV[arg] end
local function number() return tonumber(text()) end
local function name() key = key + 1; return KEYS[key] end
local function exact(value) return string.format('%.17g', value) end

local function read()
  local b = {{use = name(), visits = name(), burst = number(), per_s = number(), most = number(),
    daily_requests = number(), daily_budget = number()}}
  local known = {{day = number(), requests = number(), units = number()}}
  local kept = redis.call('HMGET', b.use, 'spent', 'at', 'day', 'requests', 'units')
  b.spent, b.day = tonumber(kept[1] or 0), tonumber(kept[3] or 0)
  b.requests, b.units, b.inside = tonumber(kept[4] or 0), tonumber(kept[5] or 0), 0
  if b.burst >= 0 then
    b.spent = math.max(0, b.spent - math.max(0, now - tonumber(kept[2] or 0)) * b.per_s)
  end
  if today > b.day then
    b.day, b.requests, b.units = today, 0, 0
  elseif b.day ~= today + 1 then
    b.day = today
  end
  if known.day == b.day then
    b.requests, b.units = math.max(b.requests, known.requests), math.max(b.units, known.units)
  end
  if b.most >= 0 then
    redis.call('ZREMRANGEBYSCORE', b.visits, '-inf', exact(now))
    b.inside = redis.call('ZCARD', b.visits)
  end
  return b
end

local function lets_in(b, cost)
  return not (b.daily_requests >= 0 and b.requests >= b.daily_requests)
    and not (b.daily_budget >= 0 and b.units + cost > b.daily_budget)
    and not (b.burst >= 0 and b.spent + 1 - b.burst > {ROUNDING!r})
    and not (b.most >= 0 and b.inside >= b.most)
end

local function charge(b, cost, id, lasts_s)
  local spent, kept_s = 0, {2 * DAY_S}
  if b.burst >= 0 then
    spent, kept_s = b.spent + 1, math.max(kept_s, math.ceil((b.spent + 1) / b.per_s))
  end
  redis.call('HSET', b.use, 'spent', exact(spent), 'at', exact(now), 'day', exact(b.day),
    'requests', exact(b.requests + 1), 'units', exact(b.units + cost))
  redis.call('EXPIRE', b.use, exact(kept_s))
  if b.most >= 0 then
    redis.call('ZADD', b.visits, exact(now + lasts_s), id)
    redis.call('EXPIRE', b.visits, exact(math.ceil(lasts_s) + 60))
  end
end

for _ = 1, number() do redis.call('ZREM', name(), text()) end

local reply = {{exact(now)}}
for _ = 1, number() do
  local count, cost, id, lasts_s = number(), number(), text(), number()
  local bounds, is_let_in = {{}}, true
  for place = 1, count do
    local b = read()
    bounds[place] = b
    is_let_in = is_let_in and lets_in(b, cost)
    for _, value in ipairs({{b.spent, b.day, b.requests, b.units, b.inside}}) do
      reply[#reply + 1] = exact(value)
    end
  end
  if is_let_in then
    for _, b in ipairs(bounds) do charge(b, cost, id, lasts_s) end
  end
end
return reply
"""

_NUMBERS = 5

Departure = tuple[str, str]
"""The sorted set that a visit leaves, and its id there."""


def visits_of(prefix: str, bound: Bound) -> str:
    """The name of the sorted set of a bound."""
    return f"{use_of(prefix, bound)}:visits"


def use_of(prefix: str, bound: Bound) -> str:
    """The name of the hash of a bound."""
    return f"{prefix}{bound.whose}:{bound.name}"


def encoded(
    prefix: str,
    departures: Sequence[Departure],
    visits: Sequence[Visit],
    known: Sequence[Use],
) -> tuple[list[str], list[str]]:
    """The keys and the arguments of a call. `known` are the uses of all bounds of all visits."""
    keys = [visits_name for visits_name, _ in departures]
    words = [str(len(departures)), *(identifier for _, identifier in departures), str(len(visits))]
    knowing = iter(known)
    for visit in visits:
        words += (str(len(visit.bounds)), str(visit.cost), visit.id, repr(visit.lasts_s))
        for bound in visit.bounds:
            use = next(knowing)
            keys += (use_of(prefix, bound), visits_of(prefix, bound))
            words += _limits(bound.limits)
            words += (str(use.day), str(use.requests), str(use.units))
    return keys, words


def _limits(limits: CallerLimits) -> Iterator[str]:
    rate = limits.rate
    yield from ("-1", "0") if rate is None else (str(rate.capacity), repr(rate.per_s))
    for limit in (limits.max_concurrency, limits.daily_requests, limits.daily_budget):
        yield "-1" if limit is None else str(limit)


def decoded(reply: Sequence[bytes], visits: Sequence[Visit]) -> tuple[float, list[list[Use]]]:
    """The time by Valkey's clock, and the settled uses of each visit's bounds.

    Raises:
        ValueError: it is not a reply to a call with these visits.
    """
    numbers = [float(word) for word in reply]
    expected = 1 + _NUMBERS * sum(len(visit.bounds) for visit in visits)
    if len(numbers) != expected:
        raise ValueError(f"{len(numbers)} numbers where {expected} are expected")
    now, rest = numbers[0], iter(numbers[1:])
    return now, [[_use(now, rest) for _ in visit.bounds] for visit in visits]


def _use(now: float, numbers: Iterator[float]) -> Use:
    spent = next(numbers)
    day, requests, units, inside = (int(next(numbers)) for _ in range(_NUMBERS - 1))
    return Use(spent, now, day, requests, units, inside)
