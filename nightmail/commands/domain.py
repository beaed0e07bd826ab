"""`domain`: where mail may be sent from, and with which keys it is signed. Each process knows within a second."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

import click

from api.addresses import parse_domain
from api.errors import ApiError
from nightmail.complaint import Complaint
from nightmail.operator_settings import operator_settings
from nightmail.policy_access import with_store
from outbox.domain_store import DomainStore, DomainTaken
from outbox.policy_store import PolicyStore
from outbox.sender_domain import DMARC, Hosts, Record, SenderDomain
from runtime.sealing import Seal, Unsealable

T = TypeVar("T")


@click.group()
def domain() -> None:
    """Sending domains: DKIM keys, DNS records, and who is asked for them (NIGHTMAIL_VERIFIED_DOMAINS_ONLY)."""


@domain.command()
@click.argument("name")
def add(*, name: str) -> None:
    """Make DKIM keys for a domain and show the DNS records to publish."""
    try:
        _show(_with_domains(lambda store: store.create(_written(name))))
    except DomainTaken:
        raise Complaint(f"{name} is there already; see `nightmail domain show {name}`.") from None


@domain.command("list")
def list_domains() -> None:
    """List the domains with their status."""
    hosts = Hosts.from_settings(operator_settings())
    for each in _with_domains(lambda store: store.all()):
        click.echo(f"{each.id}  {each.status(hosts):<18}  {each.name}")


@domain.command()
@click.argument("name")
def show(*, name: str) -> None:
    """Show a domain's DNS records and what is known of each."""
    _show(_with_domains(lambda store: _named(store, name)))


@domain.command()
@click.argument("name")
def verify(*, name: str) -> None:
    """Have the DNS looked at, by the chores worker of the running stack."""
    _change(name, lambda store, found: store.ask(found))
    click.echo(f"Asked. `nightmail domain show {name}` tells what was found.")


@domain.command()
@click.argument("name")
def rotate(*, name: str) -> None:
    """Make new DKIM keys beside the old ones, which sign on until the new records are seen in the DNS."""
    _show(_change(name, lambda store, found: store.rotate(found)))


@domain.command()
@click.argument("name")
def remove(*, name: str) -> None:
    """Forget a domain and its keys."""

    async def forget(store: DomainStore) -> bool:
        return await store.remove(await _named(store, name))

    _with_domains(forget)
    click.echo("Removed.")


@domain.command()
@click.argument("name")
def allow(*, name: str) -> None:
    """Take mail from this domain, whatever the DNS says."""
    with_store(lambda store: store.set_domain(_written(name), verified=True))
    click.echo(f"Mail from {name} is taken.")


@domain.command()
@click.argument("name")
def deny(*, name: str) -> None:
    """Refuse mail from this domain, whatever the DNS says."""
    with_store(lambda store: store.set_domain(_written(name), verified=False))
    click.echo(f"Mail from {name} is refused.")


def _with_domains(work: Callable[[DomainStore], Awaitable[T]]) -> T:
    settings = operator_settings()

    async def run(store: PolicyStore) -> T:
        return await work(DomainStore(store, settings, Seal.from_settings(settings)))

    try:
        return with_store(run)
    except (Unsealable, ValueError) as error:
        raise Complaint(f"{error}; the control API and the workers have it.") from None


def _change(name: str, change: Callable[[DomainStore, SenderDomain], Awaitable[SenderDomain | None]]) -> SenderDomain:
    async def run(store: DomainStore) -> SenderDomain | None:
        return await change(store, await _named(store, name))

    changed = _with_domains(run)
    if changed is None:
        raise Complaint(f"{name} was removed meanwhile.")
    return changed


async def _named(store: DomainStore, name: str) -> SenderDomain:
    found = await store.named(_written(name))
    if found is None:
        raise Complaint(f"There is no domain {name}; see `nightmail domain list`.")
    return found


def _written(name: str) -> str:
    try:
        return parse_domain(name, field="name")
    except ApiError:
        raise Complaint(f"{name} is no domain name.") from None


def _show(shown: SenderDomain) -> None:
    """As lines of a zone file, with the status in front."""
    hosts = Hosts.from_settings(operator_settings())
    click.echo(f"{shown.name} is {shown.status(hosts)}. Publish:\n")
    for record in shown.records(hosts):
        value = _written_value(record)
        click.echo(f"{record.status:<18} {record.full_name(shown.name)}. {record.type} {value}")
    click.echo(f'\nAdvice, not looked at: _dmarc.{shown.name}. TXT "{DMARC}"')


def _written_value(record: Record) -> str:
    match record.type:
        case "MX":
            return f"{record.priority} {record.value}."
        case "CNAME":
            return f"{record.value}."
    return _strings(record.value)


def _strings(value: str) -> str:
    """A TXT value in strings of 255 octets, the most that one may have (RFC 1035 section 3.3)."""
    return " ".join(f'"{value[at : at + 255]}"' for at in range(0, len(value), 255))
