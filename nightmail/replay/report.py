"""The figures that every replay has: no mail refused, lost, doubled or late, and every row there in the end."""

import asyncio

from nightmail.replay.figures import Figure, accept_times, compared, delays, p99, zero
from nightmail.replay.stage import Stage

_NOISE = 0.025  # seconds by which two halves of one run differ anyway where load, stack and server share two cores


async def common_figures(stage: Stage) -> list[Figure]:
    """Wait until all is quiet, and account for every mail."""
    verdict, arrivals = await stage.settle()
    rows = await asyncio.to_thread(stage.database.compare, stage.ledger)
    accepted = sum(verdict.accepted.values())
    ways = ", ".join(f"{count} by {via}" for via, count in sorted(verdict.accepted.items()))
    times = accept_times(stage.ledger, stage.phases)
    figures = [
        Figure("accepted", "all", f"{accepted} ({ways})", accepted > 0),
        zero("refused", verdict.refused, of=f"{accepted + verdict.refused}"),
        zero("lost", len(verdict.lost), of=f"{accepted}"),
        zero("duplicated", verdict.duplicated, of=f"{accepted}"),
        zero("never accepted, yet delivered", verdict.phantoms),
        compared("accept, p99", times, factor=1.2, slack=_NOISE),
        compared("delivery delay, p99", delays(stage.ledger, arrivals, stage.phases), factor=1, slack=0.1),
        zero("rows missing", rows.missing, of=f"{accepted}"),
        zero("rows too many", rows.extra),
        zero("rows not delivered", rows.undelivered),
        zero("events missing, doubled or unlike", rows.events_wrong),
        zero("keys misjudged", stage.watch.keys_wrong, of=f"{stage.watch.keys_asked}"),
    ]
    if times.get("restart"):
        waited = f"p99 {p99(times['restart']):.1f} s ({len(times['restart'])} mails, tried again by the client)"
        figures.append(Figure("accept while listeners restart", "told", waited, met=True))
    return figures
