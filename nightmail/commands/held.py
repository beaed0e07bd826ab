"""`held` and `redrive`: deliveries that were put aside for a person, and back to work with them."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import click
import orjson
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.errors import QueueLost
from outbox.held import Held
from outbox.held import held as read_held
from outbox.queue import Outbox
from runtime.clock import now
from runtime.connections import StoreError, redis_async
from runtime.settings import Settings

Answer = TypeVar("Answer")

_REPLY = 5.0  # seconds


@click.command()
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def held(*, as_json: bool) -> None:
    """List what is held: deliveries whose senders were gone too often before they were done."""
    settings = operator_settings()
    found = _ask(settings, lambda redis: read_held(redis, settings))
    if as_json:
        click.echo(orjson.dumps([each.to_dict() for each in found], option=orjson.OPT_INDENT_2))
    elif found:
        Console().print(_table(found))
    else:
        click.echo("Nothing is held.")


@click.command()
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--all", "everything", is_flag=True, help="All that is held.")
def redrive(*, ids: tuple[str, ...], everything: bool) -> None:
    """Put held mail back to work: whole messages, or single deliveries (ID/0, as `nightmail held` lists them)."""
    if bool(ids) is everything:
        raise click.UsageError("Give the ids that `nightmail held` lists, or --all.")
    settings = operator_settings()
    wanted = _wanted(_ask(settings, lambda redis: read_held(redis, settings)), ids)
    done = _ask(settings, lambda redis: _redrive(redis, settings, wanted))
    click.echo(f"{done} deliveries are at work again.")


def _wanted(found: Sequence[Held], ids: Sequence[str]) -> list[str]:
    """Ids of deliveries; all without `ids`. Raises Complaint where one is not held."""
    unknown = set(ids) - {name for each in found for name in (each.delivery_id, each.message.id)}
    if unknown:
        raise Complaint(f"Not held: {', '.join(sorted(unknown))}. `nightmail held` lists what is.")
    return [each.delivery_id for each in found if not ids or {each.delivery_id, each.message.id} & set(ids)]


async def _redrive(redis: Redis, settings: Settings, delivery_ids: Sequence[str]) -> int:
    outbox = Outbox(redis, settings)
    return sum([await outbox.redrive(delivery_id, now=now()) for delivery_id in delivery_ids])


def _ask(settings: Settings, question: Callable[[Redis], Awaitable[Answer]]) -> Answer:
    async def ask() -> Answer:
        async with redis_async(settings, timeout=_REPLY) as redis:
            return await question(redis)

    try:
        return asyncio.run(ask())
    except QueueLost:
        raise Complaint("The queue has lost its memory: `nightmail rebuild queue` first.") from None
    except StoreError:
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL, or NIGHTMAIL_DATA_DIR.") from None


def _table(found: Sequence[Held]) -> Table:
    table = Table("Delivery", "To", "Subject", "Held since", "Because")
    for each in found:
        because = (
            f"{each.leases_lost} leases were lost while it was sent" if each.leases_lost else "held before a rebuild"
        )
        since = each.since.isoformat(timespec="seconds")
        table.add_row(each.delivery_id, Text(", ".join(each.recipients)), Text(each.message.subject), since, because)
    return table
