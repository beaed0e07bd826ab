"""`audit`: proves that every recipient accepted has ended or is on its way (docs/reliability.md)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import click
import orjson

from history.errors import HistoryUnavailable
from history.queries import History
from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.adopt import adopt_all
from outbox.audit import Audit, Audited, Ended
from outbox.states import ENDED
from runtime import logs
from runtime.clock import now
from runtime.connections import StoreError, redis_sync
from runtime.settings import Settings

_REPLY = 60.0  # seconds
_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.option("--repair", is_flag=True, help="Put back what is nowhere, or in an abandoned journal only; logged.")
@click.option("--from", "others", multiple=True, type=_FOLDER, help="Data folder of another machine, or a copy of it.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def audit(*, repair: bool, others: tuple[Path, ...], as_json: bool) -> None:
    """Account for every recipient that was ever accepted on this machine. Exit code 1 if one is missing."""
    settings = operator_settings()
    logs.setup(settings, "audit")
    redis = redis_sync(settings, timeout=_REPLY)
    try:
        reinjected = asyncio.run(adopt_all(settings, [settings.data_dir, *others])) if repair else 0
        with _history(settings) as ended:
            found = Audit(redis, settings, now=now(), others=others, ended_in_history=ended).run(repair=repair)
        found.reinjected = reinjected
    except StoreError:
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL, or NIGHTMAIL_DATA_DIR.") from None
    finally:
        redis.close()
    click.echo(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2) if as_json else _words(found))
    if not found.holds:
        raise SystemExit(1)


@contextmanager
def _history(settings: Settings) -> Iterator[Ended]:
    """Asks the history whether a message has ended; a history that is away has no say."""
    history = History.open(settings, "audit")

    def ended(message_id: str) -> bool:
        try:
            found = history.find(message_id)
        except HistoryUnavailable:
            return False
        return found is not None and set(found.states) <= ENDED

    try:
        yield ended
    finally:
        history.close()


def _words(found: Audited) -> str:
    if found.queue == "lost":
        return "The queue has lost its memory: `nightmail rebuild queue` first."
    lines = [
        f"{found.messages} messages, {found.accepted} recipients accepted",
        f"  = {found.delivered} delivered + {found.failed} failed + {found.suppressed} suppressed"
        f" + {found.cancelled} cancelled + {found.live} live"
        + (f" + {found.unaccounted} UNACCOUNTED" if found.unaccounted else ""),
    ]
    if found.in_journal_only:
        lines.append(
            f"{found.in_journal_only} of the live are in a journal only, and go into the queue when it answers."
        )
    lines += [f"orphan: {message_id}" for message_id in found.orphans]
    if found.without_content:
        lines.append(f"{found.without_content} live messages WITHOUT THEIR LARGE CONTENT (NIGHTMAIL_BLOB_URL).")
    lines += [f"gap: {gap}" for gap in found.gaps]
    if found.reinjected:
        lines.append(f"{found.reinjected} accepts lay in journals that nobody writes to, and are in the queue now.")
    if found.repaired:
        lines.append(f"{found.repaired} messages were put back.")
    return "\n".join(lines)
