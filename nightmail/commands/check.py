"""`check`: are the settings valid, what is in force, and does each store answer?"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import click
from pydantic import SecretStr
from redis.exceptions import RedisError

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.blobs import Blobs
from outbox.errors import ObjectsUnavailable
from outbox.object_store import Store, open_archive_store
from runtime.connections import redis_sync
from runtime.sealing import load_policy_key
from runtime.secret import load_secret
from runtime.settings import Settings


@click.command()
@click.argument("what", type=click.Choice(["database"]), required=False)
def check(*, what: str | None) -> None:
    """Show the settings in force, less the secrets, and try each store. Exit code 1 if something is wrong.

    `check database` tries to break each guard of a protected PostgreSQL instead, and says which held.
    """
    settings = operator_settings()
    if what == "database":
        from nightmail.commands.database import run_check  # noqa: PLC0415

        raise SystemExit(0 if run_check(settings) else 1)
    for name in Settings.model_fields:
        mark = "*" if name in settings.model_fields_set else " "
        click.echo(f"{mark} NIGHTMAIL_{name.upper():<32} {_shown(getattr(settings, name))}")
    click.echo("(* set by the environment or the running stack)\n")
    checks: dict[str, Callable[[Settings], str]] = {
        "secret": _secret,
        "policy key": _policy_key,
        "data folder": _data_folder,
        "queue": _queue,
        "large contents": _large_contents,
        "archive": _archive,
        "database": _database,
    }
    problems = [_tell(name, question, settings) for name, question in checks.items()]
    if any(problems):
        raise Complaint(f"{sum(problems)} of {len(checks)} checks failed.")


def _shown(value: Any) -> str:
    if isinstance(value, SecretStr):
        return "(secret)" if value.get_secret_value() else "(empty)"
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(empty)"
    return f"{value.total_seconds():.3f} s" if isinstance(value, timedelta) else str(value)


def _tell(name: str, question: Callable[[Settings], str], settings: Settings) -> bool:
    """Ask and print; True for a problem."""
    try:
        answer, bad = question(settings), False
    except (OSError, RedisError, ValueError, Complaint, ObjectsUnavailable) as error:
        answer, bad = f"{type(error).__name__}: {error}", True
    click.echo(f"{'FAILED' if bad else 'ok':<7} {name}: {answer}")
    return bad


def _secret(settings: Settings) -> str:
    return f"{len(load_secret(settings))} bytes"


def _policy_key(settings: Settings) -> str:
    return f"{len(key)} bytes" if (key := load_policy_key(settings)) else "none: sending domains cannot have DKIM keys"


def _data_folder(settings: Settings) -> str:
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    trial = settings.data_dir / ".check"
    trial.write_bytes(b"")
    trial.unlink()
    return f"{settings.data_dir.absolute()} can be written"


def _queue(settings: Settings) -> str:
    """What is promised of the queue stands on three settings of its server."""
    redis = redis_sync(settings)
    try:
        info: Any = redis.info("server")
        wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}
        found: Any = redis.config_get(*wanted)
    finally:
        redis.close()
    wrong = [f"{name} is {found[name]}, should be {value}" for name, value in wanted.items() if found[name] != value]
    if wrong:
        raise Complaint("; ".join(wrong))
    version = info.get("valkey_version") or info["redis_version"]
    return f"version {version}, every write on disk before its reply"


def _large_contents(settings: Settings) -> str:
    blobs = Blobs(settings)
    return f"{settings.blobs} {_tried(blobs.store)}" if blobs.enabled else "in the queue"


def _archive(settings: Settings) -> str:
    return f"{settings.archive_url or 'the data folder'} {_tried(open_archive_store(settings))}"


def _tried(store: Store) -> str:
    """All that is ever done to it; the name ends like none that is looked for."""
    name = f"check-{uuid4().hex}"
    store.put(name, b"nightmail check")  # which reads it back
    store.delete(name)
    return "can be written, read and deleted from"


def _database(settings: Settings) -> str:
    """Imported here, because the other checks must work where SQLAlchemy is broken or absent."""
    from sqlalchemy import text  # noqa: PLC0415
    from sqlalchemy.exc import SQLAlchemyError  # noqa: PLC0415

    from history.engine import Database  # noqa: PLC0415

    database = Database.open(settings, "check")
    try:
        with database.connect() as db:
            db.execute(text("select 1"))
            return f"{db.dialect.name} answers"
    except SQLAlchemyError as error:
        reason = error.__cause__ or error
        raise Complaint(f"does not answer ({type(reason).__name__})") from None
    finally:
        database.close()
