"""`mailbox`: what the development mailbox caught; `mailbox serve` runs it."""

from datetime import UTC, datetime

import click
import httpx
import orjson

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from nightmail.ready import reachable


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@click.option("--limit", default=20, show_default=True, help="How many of the newest.")
@click.pass_context
def mailbox(context: click.Context, *, as_json: bool, limit: int) -> None:
    """List the newest messages of the development mailbox."""
    if context.invoked_subcommand:
        return
    settings = operator_settings()
    url = f"http://{reachable(settings.host)}:{settings.mailbox_port}"
    try:
        answer = httpx.get(f"{url}/messages", params={"limit": limit}, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        raise Complaint(f"No mailbox answers at {url}. Is a stack running (`nightmail up`)?") from None
    if as_json:
        click.echo(answer.text)
        return
    messages = orjson.loads(answer.content)["data"]
    for message in messages:
        received = datetime.fromtimestamp(message["received_at"] / 1000, UTC)
        click.echo(f"{received:%H:%M:%S}  {message['n']:>6}  {', '.join(message['recipients'])}  {message['subject']}")
    click.echo(f"{len(messages)} shown. See them at {url}" if messages else f"Empty. See {url}")


@mailbox.command()
def serve() -> None:
    """Run the mailbox."""
    from nightmail.roles.mailbox import run  # noqa: PLC0415 - the list needs no server
    from runtime import logs  # noqa: PLC0415 - the list needs no logs

    settings = operator_settings()
    logs.setup(settings, "mailbox")
    run(settings)
