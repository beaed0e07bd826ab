"""More than a stack can do: what it takes stays what it took at its best, the rest is refused at once.

Its best and the flood take turns, and the median of their ratios counts: a machine is not the same every second.
"""

import statistics
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from faults.drill import Drill
from faults.figures import Figure, at_most, told
from faults.flood import Answer, Flood
from faults.phases import Times
from nightmail.client_details import ClientDetails
from nightmail.stack_folder import read_environment

_CLIENTS = 48  # that send one after the other, to find what it can do
_WARM_UP = 1.0  # seconds
_PEAK = 4.0  # seconds of that
_FLOOD = 5.0  # seconds of too much
_ROUNDS = 4
_TIMES = 3.0
_AFTER = 10.0  # seconds within which it is as before
_SHARE = 0.9  # of its best
_CALM = 30.0  # longest wait for it, seconds
_OK = 200
_PROPER = frozenset({_OK, 429, 503})
VARIABLES = {"NIGHTMAIL_RATE_LIMIT": "1000000"}  # the door is asked, not the limit of one key


@dataclass(frozen=True, slots=True)
class Round:
    """What it took a second at its best, and the answers to three times as much."""

    best: float
    flooded: Sequence[Answer]

    @property
    def kept(self) -> float:
        """The share of its best that it took in the flood."""
        took = max(answer.ended_at for answer in self.flooded) - min(answer.begun_at for answer in self.flooded)
        return sum(answer.status == _OK for answer in self.flooded) / took / self.best


async def overload(drill: Drill) -> None:
    """Find its best, ask for three times as much, and see it recover."""
    flood = Flood(ClientDetails.from_environment(read_environment(drill.folder.local_env)), drill.ledger)
    try:
        await flood.connect()
        await flood.closed(_WARM_UP, clients=_CLIENTS)
        await drill.calm(_CALM)
        before = await flood.open(drill.load.rate, _PEAK)
        rounds = [await _round(drill, flood) for _ in range(_ROUNDS)]
        end = time.time()
        after = await flood.open(drill.load.rate, _AFTER)
    finally:
        flood.close()
    drill.figures += _figures(rounds)
    drill.figures.append(at_most("as before again", _AFTER, _recovered(before, after) - end, unit="s"))


async def _round(drill: Drill, flood: Flood) -> Round:
    """Its best, and then three times as much; begun in calm."""
    await drill.calm(_CALM)
    best = _rate(await flood.closed(_PEAK, clients=_CLIENTS))
    await drill.calm(_CALM)
    flooded = await flood.open(best * _TIMES, _FLOOD)
    counts = Counter(answer.status for answer in flooded)
    drill.note(f"best {best:.0f}/s; asked for {len(flooded) / _FLOOD:.0f}/s, answers: {dict(counts)}")
    return Round(best, flooded)


def _rate(answers: Sequence[Answer]) -> float:
    return sum(answer.status == _OK for answer in answers) / _PEAK


def _figures(rounds: Sequence[Round]) -> list[Figure]:
    answers = [answer for each in rounds for answer in each.flooded]
    refused = Times.of(answer.seconds for answer in answers if answer.status in _PROPER - {_OK})
    taken = Times.of(answer.seconds for answer in answers if answer.status == _OK)
    improper = sum(answer.status not in _PROPER for answer in answers)
    kept = statistics.median(each.kept for each in rounds)
    shares = ", ".join(f"{each.kept:.0%} of {each.best:.0f}/s" for each in rounds)
    return [
        told("accepted at three times its best", shares),
        Figure("  the median of these", f">= {_SHARE:.0%}", f"{kept:.0%}", kept >= _SHARE),
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
