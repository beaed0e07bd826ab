"""`chaos database`: takes the main database away, to see that mail does not care."""

import click

from nightmail.api_client import call
from nightmail.client_details import api_of
from nightmail.complaint import load_settings

_MODES = ("up", "down", "slow", "exhausted", "dropped")


@click.group()
def chaos() -> None:
    """Break something on purpose. Only where NIGHTMAIL_CHAOS is on, as in `nightmail up`."""


@chaos.command()
@click.argument("mode", type=click.Choice(_MODES), required=False)
@click.option("--for", "seconds", type=click.FloatRange(min=1), default=60, show_default=True, metavar="SECONDS")
def database(*, mode: str | None, seconds: float) -> None:
    """Switch the database to MODE for a while; without MODE say which is in force."""
    api = api_of(load_settings())
    if mode is None:
        state = call(api, "GET", "/chaos/database")
    else:
        state = call(api, "POST", "/chaos/database", json={"mode": mode, "for_seconds": seconds})
    until = f" until {state['until']}" if state.get("until") else ""
    click.echo(f"The database is {state['mode']}{until}.")
