"""More than a stack can do: what it takes stays what it took at its best, the rest is refused at once."""

import time
from collections import Counter
from collections.abc import Sequence

from faults.drill import Drill
from faults.figures import Figure, at_most, told
from faults.flood import Answer, Flood
from faults.phases import Times
from nightmail.client_details import ClientDetails
from nightmail.stack_folder import read_environment

_CLIENTS = 48  # that send one after the other, to find what it can do
_WARM_UP = 1.0  # seconds
_PEAK = 6.0  # seconds of that
_FLOOD = 10.0  # seconds of too much
_TIMES = 3.0
_AFTER = 10.0  # seconds within which it is as before
_GENTLE = 0.2  # of its best: the load before and after
_OK = 200
_PROPER = frozenset({_OK, 429, 503})
VARIABLES = {"NIGHTMAIL_RATE_LIMIT": "1000000"}  # the door is asked, not the limit of one key


async def overload(drill: Drill) -> None:
    """Find its best, ask for three times as much, and see it recover."""
    flood = Flood(ClientDetails.from_environment(read_environment(drill.folder.local_env)), drill.ledger)
    try:
        await flood.connect()
        await flood.closed(_WARM_UP, clients=_CLIENTS)
        best = _rate(await flood.closed(_PEAK, clients=_CLIENTS))
        await drill.calm(30)
        before = await flood.open(best * _GENTLE, _PEAK / 2)
        flooded = await flood.open(best * _TIMES, _FLOOD)
        end = time.time()
        after = await flood.open(best * _GENTLE, _AFTER)
    finally:
        flood.close()
    counts = Counter(answer.status for answer in flooded)
    drill.note(f"best {best:.0f}/s; asked for {len(flooded) / _FLOOD:.0f}/s, answers: {dict(counts)}")
    drill.figures += _figures(best, flooded)
    drill.figures.append(at_most("as before again", _AFTER, _recovered(before, after) - end, unit="s"))


def _rate(answers: Sequence[Answer]) -> float:
    return sum(answer.status == _OK for answer in answers) / _PEAK


def _figures(best: float, flooded: Sequence[Answer]) -> list[Figure]:
    took = max(answer.ended_at for answer in flooded) - min(answer.begun_at for answer in flooded)
    good = sum(answer.status == _OK for answer in flooded) / took
    refused = Times.of(answer.seconds for answer in flooded if answer.status in _PROPER - {_OK})
    taken = Times.of(answer.seconds for answer in flooded if answer.status == _OK)
    improper = sum(answer.status not in _PROPER for answer in flooded)
    return [
        told("accepted a second at its best", f"{best:.0f}"),
        Figure("accepted a second at three times that", f">= {0.9 * best:.0f}", f"{good:.0f}", good >= 0.9 * best),
        Figure("refused but with 429 or 503", "0", str(improper), improper == 0),
        told("refused within: p50 / p99 / max", str(refused)),
        told("accepted within: p50 / p99 / max", str(taken)),
        at_most("refused within, p50", 0.02, refused.p50),
    ]


def _recovered(before: Sequence[Answer], after: Sequence[Answer]) -> float:
    """When the last answer came that was a refusal, or slower than any before."""
    slowest = max(answer.seconds for answer in before)
    return max(
        (answer.ended_at for answer in after if answer.status != _OK or answer.seconds > slowest),
        default=min(answer.begun_at for answer in after),
    )
