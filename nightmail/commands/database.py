"""`database`: protects a PostgreSQL, and changes the schema of a protected one. `check database` tries the guards.

For a person, with a login that no process has (NIGHTMAIL_DATABASE_OPERATOR_URL).
"""

import contextlib
from collections.abc import Iterator
from datetime import timedelta

import click
import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError

from history import guards, schema
from history.engine import Database
from history.errors import HistoryError
from history.faults import words
from history.guards import Environment, Mark, Permit
from history.proofs import prove
from history.protect import Wish, protect
from history.roles import LOGINS
from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from runtime.clock import now
from runtime.settings import Settings

_LIMIT = timedelta(minutes=10)  # a person waits for it

ticket_option = click.option("--ticket", default="", help="Why; kept with the window. Production asks for it.")
name_option = click.option("--name", default=None, help="Name of the database that is meant. Production asks for it.")


class _WithVerify(click.Group):
    """`verify` has a file of its own, which imports this one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return [*super().list_commands(ctx), "verify"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import it when it is called."""
        if cmd_name == "verify":
            from nightmail.commands.database_verify import verify  # noqa: PLC0415

            return verify
        return super().get_command(ctx, cmd_name)


@click.group(cls=_WithVerify)
def database() -> None:
    """Guard the main database (PostgreSQL), and change a guarded one."""


@database.command("protect")
@click.option("--name", required=True, help="Name by which people must call this database before they change it.")
@click.option("--environment", type=click.Choice([*map(str, Environment)]), default="production", show_default=True)
@click.option("--limit", "limits", multiple=True, metavar="LOGIN=N", help="Most connections, as in recorder=12.")
@click.option("--new-passwords", is_flag=True, help="Make new passwords for all logins, and show them.")
@click.option("--ticket", default="", help="Asked for where the mark of a production database would change.")
@click.option("--old-name", default="", help="Same.")
def protect_command(
    *, name: str, environment: str, limits: tuple[str, ...], new_passwords: bool, ticket: str, old_name: str
) -> None:
    """Make roles, hand the tables to an owner who cannot log in, put up the guards, mark the database."""
    settings = operator_settings()
    wish = Wish(_passwords(settings), _limits(limits), renew=new_passwords)
    mark = Mark(name, Environment(environment))
    with opened(settings) as db:
        made = protect(db.engine, mark, wish, now=now(), permit=Permit(ticket, old_name))
        address = db.engine.url
    click.echo(f"Protected: {mark.name}, {mark.environment}.")
    for login, password in made.items():
        click.echo(f"{login:<20} {_url(address, login, password)}")
    if made:
        click.echo("These are shown only once. The recorder and the control API get theirs as NIGHTMAIL_DATABASE_URL.")


@database.command()
@ticket_option
@name_option
def migrate(*, ticket: str, name: str | None) -> None:
    """Make what is missing and bring the schema to the newest version; the recorder fills what was lost."""
    with opened(operator_settings()) as db:
        with db.connect() as connection:
            mark = guards.mark_of(connection)
        schema.mend(db.engine, now(), Permit(ticket, meant(name, mark)))
    click.echo("The schema is complete.")


@database.command("open-window")
@ticket_option
@name_option
@click.option("--minutes", type=click.IntRange(1, 240), default=15, show_default=True, help="It closes by itself.")
def open_window(*, ticket: str, name: str | None, minutes: int) -> None:
    """Suspend the guards for this login and nightmail_migrate, for work by hand."""
    with opened(operator_settings()) as db, db.connect() as connection:
        mark = _marked(connection)
        until = guards.open_window(connection, Permit(ticket, meant(name, mark)), minutes=minutes)
        connection.commit()
    click.echo(f"Open until {until:%H:%M:%S} UTC. `nightmail database close-window` closes it before.")


@database.command("close-window")
def close_window() -> None:
    """Close the windows that this login opened."""
    with opened(operator_settings()) as db, db.connect() as connection:
        _marked(connection)
        guards.close_window(connection)
        connection.commit()
    click.echo("Closed.")


def run_check(settings: Settings) -> bool:
    """For `nightmail check database`: try each guard, print a table; whether all held."""
    settings = _as_operator(settings)
    with opened(settings) as db:
        if db.engine.dialect.name != "postgresql":
            click.echo("SQLite: nothing to guard but its folder.")
            return True
        missed = 0
        click.echo(f"{'':<7} {'guard':<52} {'expected':<16} found")
        for finding in prove(db, settings):
            missed += not finding.held
            verdict = "ok" if finding.held else "MISSED"
            click.echo(f"{verdict:<7} {finding.guard:<52} {finding.expected:<16} {finding.found}")
    click.echo(f"{missed} missed." if missed else "Every guard held.")
    return not missed


@contextlib.contextmanager
def opened(settings: Settings) -> Iterator[Database]:
    """The database as the operator; what goes wrong becomes a complaint."""
    operator = _as_operator(settings)
    database = Database.open(operator, "operator", limit=_LIMIT, patience=timedelta(seconds=5), writer=True)
    try:
        yield database
    except (HistoryError, SQLAlchemyError) as error:
        raise Complaint(_explained(error)) from None
    finally:
        database.close()


def _as_operator(settings: Settings) -> Settings:
    """The settings as this login sees them; rebuilt, because `database` is remembered."""
    url = settings.database_operator_url or settings.database_url
    return Settings(**{name: getattr(settings, name) for name in settings.model_fields_set} | {"database_url": url})


def _explained(error: Exception) -> str:
    """The server's own sentence where there is one: this is a person's terminal, and no client's answer."""
    said = getattr(getattr(getattr(error, "orig", None), "diag", None), "message_primary", None)
    return f"{words(error)}: {said}" if said else words(error)


def _marked(connection: sa.Connection) -> Mark:
    mark = guards.mark_of(connection)
    if mark is None:
        raise Complaint(
            "This database is not protected, so there is no window to open; see `nightmail database protect`."
        )
    return mark


def meant(name: str | None, mark: Mark | None) -> str:
    """The name that was given. Only outside production the database's own will do."""
    if name is not None:
        return name
    return mark.name if mark is not None and mark.environment is not Environment.PRODUCTION else ""


def _limits(given: tuple[str, ...]) -> dict[str, int]:
    names = {role.short: role.name for role in LOGINS}
    limits = {}
    for limit in given:
        login, _, number = limit.partition("=")
        if login not in names or not number.isdecimal() or int(number) < 1:
            raise Complaint(f"--limit {limit}: give one of {', '.join(names)}, as in recorder=12.")
        limits[names[login]] = int(number)
    return limits


def _passwords(settings: Settings) -> dict[str, str]:
    given = {role.name: getattr(settings, f"database_password_{role.short}") for role in LOGINS}
    return {name: password.get_secret_value() for name, password in given.items() if password is not None}


def _url(address: sa.URL, login: str, password: str) -> str:
    return address.set(username=login, password=password).render_as_string(hide_password=False)
