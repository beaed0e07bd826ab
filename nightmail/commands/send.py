"""`send`: one mail through the API."""

import click

from nightmail.api_client import call
from nightmail.client_details import api_of
from nightmail.complaint import load_settings


@click.command()
@click.option("--from", "sender", required=True, help='An address, or "Name <address>".')
@click.option("--to", "recipients", required=True, multiple=True, help="May be given several times.")
@click.option("--subject", required=True)
@click.option("--text", default=None, help="The plain text.")
@click.option("--html", default=None, help="The HTML; the text is made from it when there is none.")
def send(*, sender: str, recipients: tuple[str, ...], subject: str, text: str | None, html: str | None) -> None:
    """Send a mail through the running stack; prints its id."""
    if text is None and html is None:
        raise click.UsageError("Give --text or --html.")
    mail = {"from": sender, "to": list(recipients), "subject": subject, "text": text, "html": html}
    mail = {name: value for name, value in mail.items() if value is not None}
    click.echo(call(api_of(load_settings()), "POST", "/emails", json=mail)["id"])
