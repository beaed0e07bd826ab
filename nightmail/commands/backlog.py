"""`backlog`: what waits, why, and for how long. Reads the queue alone, so it works while the database is down."""

import asyncio
import time

import click
import orjson
from redis.exceptions import RedisError
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.backlog import Backlog
from outbox.backlog import backlog as read_backlog
from runtime.clock import now
from runtime.connections import redis_async
from runtime.settings import Settings

_REPLY = 5.0  # seconds
_EVERY = 1.0  # seconds between two looks with --watch


@click.command()
@click.option("--watch", is_flag=True, help="Look again each second, until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def backlog(*, watch: bool, as_json: bool) -> None:
    """Show what waits in the queue, and how far behind the recorder is."""
    settings = operator_settings()
    if as_json:
        click.echo(orjson.dumps(_read(settings).to_dict(), option=orjson.OPT_INDENT_2))
    elif watch:
        _watch(settings)
    else:
        Console().print(_shown(_read(settings)))


def _watch(settings: Settings) -> None:
    with Live(_shown(_read(settings)), auto_refresh=False) as live:
        while True:
            time.sleep(_EVERY)
            live.update(_shown(_read(settings)), refresh=True)


def _read(settings: Settings) -> Backlog:
    async def read() -> Backlog:
        redis = redis_async(settings, timeout=_REPLY)
        try:
            return await read_backlog(redis, settings, now=now())
        finally:
            await redis.aclose()

    try:
        return asyncio.run(read())
    except (RedisError, OSError):
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL, or NIGHTMAIL_DATA_DIR.") from None


def _shown(backlog: Backlog) -> Group:
    drain = "it does not shrink" if backlog.time_to_drain is None else f"{backlog.time_to_drain:.0f} s to drain"
    head = Text(
        f"{backlog.depth} recipients wait or are being sent, {backlog.in_flight} in flight; "
        f"oldest due for {backlog.oldest_due_age:.1f} s; "
        f"{backlog.in_per_second:.1f}/s in, {backlog.out_per_second:.1f}/s out; {drain}"
    )
    parts: list[Text | Table] = [head, *_alarms(backlog), _recorder(backlog)]
    parts += [_counts("State", backlog.states), _counts("Last error", backlog.errors), _lanes(backlog)]
    return Group(*(part for part in parts if not (isinstance(part, Table) and part.row_count == 0)))


def _alarms(backlog: Backlog) -> list[Text]:
    """What a person must see to."""
    alarms = []
    if backlog.queue != "ok":
        alarms.append("The queue lost its memory and nothing is delivered: `nightmail rebuild queue`.")
    if backlog.audit and backlog.audit["unaccounted"]:
        alarms.append(f"{backlog.audit['unaccounted']} recipients are unaccounted for: `nightmail audit`.")
    return [Text(alarm, style="bold red") for alarm in alarms]


def _recorder(backlog: Backlog) -> Text:
    recorder = backlog.recorder
    behind = f"{recorder.behind} events ({recorder.behind_seconds:.1f} s) behind" if recorder.behind else "up to date"
    return Text(f"recorder: {recorder.state or 'not seen'}, {behind}" + (f"; {recorder.error}" * bool(recorder.error)))


def _counts(title: str, counts: dict[str, int]) -> Table:
    table = Table(title, "Recipients")
    for name, count in sorted(counts.items(), key=lambda pair: -pair[1]):
        table.add_row(Text(name), str(count))
    return table


def _lanes(backlog: Backlog) -> Table:
    table = Table("Lane", "Waiting", "Due", "Oldest due", "Connections", "In/s", "Out/s")
    for lane in backlog.lanes:
        numbers = (lane.waiting, lane.due, f"{lane.oldest_due_age:.1f} s", lane.connections)
        table.add_row(Text(lane.lane), *map(str, numbers), f"{lane.in_per_second:.1f}", f"{lane.out_per_second:.1f}")
    return table
