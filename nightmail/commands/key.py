"""`key`: who may send. Written to the queue; each process knows within a second."""

import click

from nightmail.complaint import Complaint
from nightmail.policy_access import with_store
from outbox.policy_snapshot import Permission


@click.group()
def key() -> None:
    """API keys."""


@key.command()
@click.argument("name")
@click.option("--sending", is_flag=True, help="May only send; without it the key may do everything.")
@click.option("--domain", default=None, help="May only send from this domain.")
@click.option("--rate", type=click.IntRange(min=1), default=None, help="Requests per second, if not the setting's.")
def create(*, name: str, sending: bool, domain: str | None, rate: int | None) -> None:
    """Make a key and print its token, which is shown only once."""
    permission = Permission.SENDING_ACCESS if sending else Permission.FULL_ACCESS
    made, token = with_store(
        lambda store: store.create_key(name, permission=permission, domain=domain, rate_limit=rate)
    )
    click.echo(f"id     {made.id}\ntoken  {token}")


@key.command("list")
def list_keys() -> None:
    """List the keys in force."""
    for each in with_store(lambda store: store.list_keys()):
        limits = " ".join(word for word in (each.domain, each.rate_limit and f"{each.rate_limit}/s") if word)
        click.echo(
            f"{each.id}  {each.created_at:%Y-%m-%d %H:%M}  {each.permission:<15}  {each.name}  {limits}".rstrip()
        )


@key.command()
@click.argument("key_id")
def revoke(*, key_id: str) -> None:
    """End a key for good."""
    if not with_store(lambda store: store.revoke_key(key_id)):
        raise Complaint(f"There is no key {key_id}; see `nightmail key list`.")
    click.echo("Revoked.")
