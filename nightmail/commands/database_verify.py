"""`database verify`: may this database go live? For a restored one, before anything is pointed at it."""

import click
from pydantic import SecretStr

from history.belonging import Belonging
from history.engine import Database
from history.installation import Installation
from history.survey import Standing, stand
from nightmail.commands.database import opened
from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.errors import ObjectsUnavailable
from outbox.stream import EventSource
from runtime.connections import StoreError, redis_sync
from runtime.settings import Settings

_EVENTS_PER_SECOND = 5_000  # on a busy machine; see docs/reliability.md


@click.command()
@click.argument("url", required=False)
def verify(*, url: str | None) -> None:
    """Say how far a restored database is behind, and whether the recorder can fill it. Changes nothing.

    URL is the database's; unset: NIGHTMAIL_DATABASE_OPERATOR_URL, or NIGHTMAIL_DATABASE_URL. Exit code 1: keep it out.
    """
    settings = operator_settings()
    if url:
        settings = settings.model_copy(update={"database_operator_url": SecretStr(url)})
    with opened(settings) as db:
        standing = examine(db, settings)
    click.echo(told(standing))
    if standing.problem:
        raise SystemExit(1)


def examine(database: Database, settings: Settings) -> Standing:
    """Hold a database against the queue and archive of `settings`."""
    redis = redis_sync(settings, timeout=5)
    try:
        events = EventSource(redis, settings)
        belonging = Belonging(events, Installation(redis, settings))
        return stand(database, events, belonging, tell=lambda _number: None)
    except ObjectsUnavailable as error:
        raise Complaint(f"Nobody can tell: {error}.") from None
    except StoreError:
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL.") from None
    finally:
        redis.close()


def told(standing: Standing) -> str:
    """The standing in words."""
    lines = [f"The database holds events up to {standing.checkpoint:,}; our newest is {standing.newest:,}."]
    if standing.problem:
        return "\n".join([*lines, f"Not to be used: {standing.problem}."])
    needs = f"the recorder needs about {standing.behind / _EVENTS_PER_SECOND:.0f} s"
    lines.append(f"{standing.behind:,} events behind, every one of them readable: {needs}.")
    return "\n".join(lines)
