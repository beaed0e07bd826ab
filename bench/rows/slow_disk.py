"""How much is accepted when every fsync takes 10 ms: groups of many mails share one, so it should not matter much.

strace delays fsync and fdatasync of the whole stack, the queue's and the journals', as a slow disk would. The other
side of the ratio runs under strace too, without the delay.
"""

import shutil
import tempfile
from pathlib import Path

from bench import probes
from bench.figures import Figure, at_least, ratios, told
from bench.plan import Plan, Tell
from bench.sink import Sink
from bench.stack import Nightmail

ROWS = {"slow-disk": "POST /emails, 64 clients, with 10 ms more for each fsync, against without"}
(_ROW,) = ROWS

_CLIENTS = 64
_DELAY = 10_000  # microseconds
_CALLS = "fsync,fdatasync"


def measure(plan: Plan, tell: Tell) -> list[Figure]:
    """By turns."""
    strace = shutil.which("strace")
    if strace is None:
        tell("slow-disk needs strace (apt install strace).")
        return []
    quick: list[float] = []
    slow: list[float] = []
    for number in range(plan.rounds):
        for delay, rates in ((0, quick), (_DELAY, slow)):
            rates.append(_accepted(strace, delay, plan))
        tell(f"round {number + 1}: {quick[-1]:,.0f}/s, slowed {slow[-1]:,.0f}/s")
    return [
        at_least(_ROW, "accepted/s, slowed to not", 0.5, ratios(slow, quick)),
        told(_ROW, "accepted, fsync as it is", quick, unit="/s"),
        told(_ROW, "accepted, fsync 10 ms slower", slow, unit="/s"),
    ]


def _accepted(strace: str, delay: int, plan: Plan) -> float:
    words = [strace, "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", f"trace={_CALLS}"]
    words += ["-e", f"inject={_CALLS}:delay_exit={delay}"] if delay else []
    with (
        tempfile.TemporaryDirectory(prefix="nightmail-bench-") as folder,
        Sink() as sink,
        Nightmail(Path(folder) / "nightmail", sink.port, under=words, **plan.of_stack) as stack,
    ):
        probes.warm(stack, sink)
        return probes.in_loop(_rate(stack, plan.mails))


async def _rate(stack: Nightmail, mails: int) -> float:
    async with probes.loading(stack.api_port, probes.one(stack), _CLIENTS) as load:
        await load.count(4 * _CLIENTS, connections=_CLIENTS)  # warm
        tally = await load.count(mails, connections=_CLIENTS)
    tally.demand_all(mails)
    return mails / tally.took
