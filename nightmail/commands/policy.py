"""`key` and `domain`: who may send, and from where. Written to the queue; each process knows within a second."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import click
from redis.exceptions import RedisError

from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from outbox.policy_snapshot import Permission
from outbox.policy_store import PolicyStore
from runtime.connections import redis_async

T = TypeVar("T")
_REPLY = 5.0  # seconds


def _with_store(work: Callable[[PolicyStore], Awaitable[T]]) -> T:
    settings = operator_settings()

    async def run() -> T:
        redis = redis_async(settings, timeout=_REPLY)
        try:
            return await work(PolicyStore(redis, settings))
        finally:
            await redis.aclose()

    try:
        return asyncio.run(run())
    except (RedisError, OSError):
        raise Complaint("The queue does not answer; see NIGHTMAIL_REDIS_URL, or NIGHTMAIL_DATA_DIR.") from None


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
    made, token = _with_store(
        lambda store: store.create_key(name, permission=permission, domain=domain, rate_limit=rate)
    )
    click.echo(f"id     {made.id}\ntoken  {token}")


@key.command("list")
def list_keys() -> None:
    """List the keys in force."""
    for each in _with_store(lambda store: store.list_keys()):
        limits = " ".join(word for word in (each.domain, each.rate_limit and f"{each.rate_limit}/s") if word)
        click.echo(
            f"{each.id}  {each.created_at:%Y-%m-%d %H:%M}  {each.permission:<15}  {each.name}  {limits}".rstrip()
        )


@key.command()
@click.argument("key_id")
def revoke(*, key_id: str) -> None:
    """End a key for good."""
    if not _with_store(lambda store: store.revoke_key(key_id)):
        raise Complaint(f"There is no key {key_id}; see `nightmail key list`.")
    click.echo("Revoked.")


@click.group()
def domain() -> None:
    """Domains that mail may be sent from, where NIGHTMAIL_VERIFIED_DOMAINS_ONLY asks for it."""


@domain.command()
@click.argument("name")
def allow(*, name: str) -> None:
    """Take mail from this domain."""
    _with_store(lambda store: store.set_domain(name, verified=True))
    click.echo(f"Mail from {name} is taken.")


@domain.command()
@click.argument("name")
def deny(*, name: str) -> None:
    """Refuse mail from this domain."""
    _with_store(lambda store: store.set_domain(name, verified=False))
    click.echo(f"Mail from {name} is refused.")
