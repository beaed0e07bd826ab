"""`rebuild queue`: fills a queue that lost its memory from journals and archive (docs/runbooks/queue-lost.md)."""

from dataclasses import asdict
from pathlib import Path

import click
import orjson
from redis.exceptions import ResponseError

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.rebuild import CannotRebuild, Rebuild, Rebuilt
from runtime import logs
from runtime.clock import now
from runtime.connections import StoreError, redis_sync

_REPLY = 60.0  # seconds: a batch of large contents takes its time

_FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command("queue")
@click.option("--dry-run", is_flag=True, help="Read everything, change nothing, and say what would be done.")
@click.option("--from", "others", multiple=True, type=_FOLDER, help="Data folder of another machine, or a copy of it.")
@click.option("--adopt", is_flag=True, help="Take a queue that was rebuilt from another machine as it is.")
@click.option("--despite-gaps", is_flag=True, help="Go on although the archive has holes: mail may go out twice.")
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def rebuild_queue(*, dry_run: bool, others: tuple[Path, ...], adopt: bool, despite_gaps: bool, as_json: bool) -> None:
    """Fill a queue that was emptied, or restored from an old file, with all mail that has not ended.

    Until then nothing is delivered, and what is accepted waits in the journals. Harmless where the queue is well.
    """
    settings = operator_settings()
    logs.setup(settings, "rebuild")
    redis = redis_sync(settings, timeout=_REPLY)
    rebuild = Rebuild(redis, settings, now=now(), others=others)
    try:
        if adopt:
            click.echo(f"This machine now works with the queue {rebuild.adopt().mark}.")
            return
        done = rebuild.run(dry=dry_run, despite_gaps=despite_gaps)
    except CannotRebuild as reason:
        raise Complaint(str(reason)) from None
    except ResponseError as refusal:
        raise Complaint(f"The queue refuses: {refusal}") from None
    except StoreError:
        raise Complaint("The queue does not answer; it must run, if only empty. See NIGHTMAIL_REDIS_URL.") from None
    finally:
        redis.close()
    click.echo(orjson.dumps(asdict(done), option=orjson.OPT_INDENT_2) if as_json else _words(done, dry=dry_run))


def _words(done: Rebuilt, *, dry: bool) -> str:
    if not done.needed:
        return "The queue has its memory: there is nothing to rebuild."
    verb = "would be" if dry else "were"
    lines = [
        f"{done.restored} messages {verb} put back: {done.waiting} wait to be delivered, the others have ended.",
        f"{done.in_doubt} may be delivered twice and {verb} flagged; {done.told_again} had events told nowhere else.",
        f"Events stand up to {done.after} and go on at {done.begins}.",
    ]
    if done.without_content:
        lines.append(f"{done.without_content} have lost their content everywhere: see the log for their ids.")
    return "\n".join(lines)
