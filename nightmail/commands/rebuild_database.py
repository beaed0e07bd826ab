"""`rebuild database`: empties the main database, so that the recorder fills it again from the first event on."""

import time
from datetime import datetime, timedelta

import click
from redis import Redis
from sqlalchemy.exc import DBAPIError

from history import guards, schema
from history.engine import Database
from history.survey import require_all
from nightmail.commands.database import meant, name_option, opened, ticket_option
from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.errors import Gap, ObjectsUnavailable
from outbox.stream import EventSource, Progress, ProgressView
from runtime.clock import now
from runtime.connections import StoreError, redis_sync
from runtime.settings import Settings

_SETTLED = timedelta(seconds=2)  # the recorder's word may be that old
_LOOK = 1.0  # seconds between two lines
_SILENT = 30.0  # seconds without a word from the recorder
_LOCKED = "55P03"
_TRIES = 20


@click.command("database")
@ticket_option
@name_option
@click.option("--wait/--no-wait", default=True, show_default=True, help="Watch the recorder until it is done.")
def rebuild_database(*, ticket: str, name: str | None, wait: bool) -> None:
    """Empty the database and let the recorder fill it from the events.

    Nothing is touched unless every event since the first can be read. Mail is accepted and delivered meanwhile.
    """
    settings = operator_settings()
    redis = redis_sync(settings, timeout=5)
    try:
        newest = _prove(redis, settings)
        with opened(settings) as db:
            with db.connect() as connection:
                mark = guards.mark_of(connection)
            _rebuild(db, guards.Permit(ticket, meant(name, mark)))
        click.echo("The tables are empty. The recorder fills them.")
        if wait:
            _watch(Progress(redis, settings), newest, emptied_at=now())
    except ObjectsUnavailable as error:
        raise Complaint(f"The database stays as it is: {error}.") from None
    except StoreError:
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL.") from None
    finally:
        redis.close()


def _prove(redis: Redis, settings: Settings) -> int:
    """The number of the newest event, all of which can be read."""
    events = EventSource(redis, settings)
    newest = events.newest()
    try:
        require_all(events, after=0, newest=newest, tell=lambda _number: None)
    except Gap as gap:
        raise Complaint(
            f"The database stays as it is: {gap}. It may hold what the events do not; see docs/runbooks/restore.md."
        ) from None
    click.echo(f"All {newest:,} events can be read.")
    return newest


def _rebuild(db: Database, permit: guards.Permit) -> None:
    """The recorder is at work: its locks are waited for, a few times."""
    for left in reversed(range(_TRIES)):
        try:
            schema.rebuild(db.engine, now(), permit)
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _LOCKED or not left:
                raise
        else:
            return


def _watch(progress: Progress, newest: int, *, emptied_at: datetime) -> None:
    """A line a second until the recorder is where the events were."""
    began = heard = time.monotonic()
    before: ProgressView | None = None
    while True:
        time.sleep(_LOOK)
        view = progress.read()
        if view.at is None or view.at < emptied_at + _SETTLED:
            if time.monotonic() - heard > _SILENT:
                raise Complaint("No recorder says a word. Start one (`nightmail recorder`): it goes on from here.")
            continue
        heard = time.monotonic()
        if view.state in {"gap", "foreign"}:
            raise Complaint(f"The recorder stopped: {view.error}.")
        if view.checkpoint >= newest:
            seconds = time.monotonic() - began
            click.echo(f"Filled: {view.checkpoint:,} events in {seconds:.0f} s.")
            return
        click.echo(_line(view, before, newest))
        before = view


def _line(view: ProgressView, before: ProgressView | None, newest: int) -> str:
    behind = f"{view.checkpoint:,} of {newest:,} events, {newest - view.checkpoint:,} behind"
    if before and before.at and view.at and view.at > before.at:
        rate = (view.checkpoint - before.checkpoint) / (view.at - before.at).total_seconds()
        behind += f", {rate:,.0f} a second"
    return behind + (f" ({view.state}: {view.error})" if view.error else "")
