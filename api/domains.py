"""Sending domains: /domains in Resend's form. Needs the queue, not the database.

Verifying is asked for here and done elsewhere (worker/domain_checks.py): the answer comes at once.
"""

import re
from dataclasses import replace
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response

from api import openapi
from api.addresses import parse_domain
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import ApiError, invalid, not_found, unavailable
from api.ids import ObjectId, parse_id
from api.paging import page
from api.present import OURS, timestamp
from api.request import Body, decode, read
from outbox.domain_store import DomainStore, DomainTaken
from outbox.policy import ApiKey
from outbox.sender_domain import DMARC, Hosts, SenderDomain
from runtime import clock
from runtime.logs import get
from runtime.sealing import Unsealable

log = get(__name__)

REGIONS = ("us-east-1", "eu-west-1", "sa-east-1", "ap-northeast-1")
CAPABILITIES = {"sending": "enabled", "receiving": "disabled"}
_LABEL = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")


class DomainRequest(Body):
    """What can be chosen later on as well."""

    tls: str | None = None
    open_tracking: bool | None = None
    click_tracking: bool | None = None
    tracking_subdomain: str | None = None
    capabilities: dict[str, str] | None = None


class NewDomainRequest(DomainRequest):
    """A domain to send from. `region` is kept for display: there is one, yours."""

    name: str
    region: str | None = None
    custom_return_path: str | None = None


def router(store: DomainStore, owner: KeyGuard) -> APIRouter:
    """Create, list, get, change, verify, delete."""
    routes = APIRouter(prefix="/domains", tags=["domains"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.post(
        "", status_code=201, responses=openapi.errors(400, 403, 422), openapi_extra=openapi.body_of(NewDomainRequest)
    )
    async def create_domain(request: Request, _key: Owner) -> Response:
        """A new domain, with the DNS records to publish before `verify`."""
        wanted = read(NewDomainRequest, decode(await request.body()))
        name, chosen = parse_domain(wanted.name, field="name"), _chosen(wanted) | _chosen_once(wanted)
        _require_way(SenderDomain("", name, clock.now()), chosen, store)
        try:
            domain = await store.create(name, **chosen)
        except DomainTaken as taken:
            raise invalid(f"The {name} domain has been registered already.", status=403) from taken
        except Unsealable as reason:
            log.error("domain.not_created", error=str(reason))
            raise unavailable() from reason
        return json_response(_whole(domain, store.hosts), 201)

    @routes.get("", responses=openapi.errors(422), openapi_extra=openapi.PAGE)
    async def list_domains(request: Request, _key: Owner) -> Response:
        """Domains without their records, the newest first; all of them where there is no `limit`."""
        domains = await store.all()
        shown = page(request, domains, id_of=lambda domain: domain.id, shown=lambda domain: _brief(domain, store.hosts))
        return json_response(shown)

    @routes.get("/{domain_id}", responses=openapi.errors(404, 422))
    async def get_domain(domain_id: ObjectId, _key: Owner) -> Response:
        """A domain, with what is known of each of its records."""
        domain = await _find(store, domain_id)
        return json_response({"object": "domain", **_whole(domain, store.hosts)})

    @routes.patch("/{domain_id}", responses=openapi.errors(400, 404, 422), openapi_extra=openapi.body_of(DomainRequest))
    async def update_domain(request: Request, domain_id: ObjectId, _key: Owner) -> Response:
        """Change how its mail travels."""
        wanted = read(DomainRequest, decode(await request.body()))
        chosen = _chosen(wanted)
        domain = await _find(store, domain_id)
        _require_way(domain, chosen, store)
        return _reference(await store.change(domain, lambda there: replace(there, **chosen)))

    @routes.post("/{domain_id}/verify", responses=openapi.errors(404, 422))
    async def verify_domain(domain_id: ObjectId, _key: Owner) -> Response:
        """Let the DNS be looked at, now and for three days. The status says when something was found."""
        return _reference(await store.ask(await _find(store, domain_id)))

    @routes.delete("/{domain_id}", responses=openapi.errors(404, 422))
    async def delete_domain(domain_id: ObjectId, _key: Owner) -> Response:
        """Forget the domain and its keys. Its mail that waits is sent unsigned."""
        domain = await _find(store, domain_id)
        if not await store.remove(domain):
            raise not_found("Domain")
        return json_response({"object": "domain", "id": domain.id, "deleted": True})

    return routes


async def _find(store: DomainStore, domain_id: str) -> SenderDomain:
    domain = await store.find(parse_id(domain_id))
    if domain is None:
        raise not_found("Domain")
    return domain


def _chosen(wanted: DomainRequest) -> dict[str, Any]:
    """The fields of SenderDomain that the request sets. What we cannot do is refused, not ignored."""
    if wanted.capabilities is not None and not wanted.capabilities.items() <= CAPABILITIES.items():
        raise invalid("Invalid `capabilities` field. Sending is `enabled` and receiving is `disabled`.")
    if wanted.tls not in (None, "opportunistic", "enforced"):
        raise invalid("Invalid `tls` field. It must be `opportunistic` or `enforced`.")
    chosen = {name: value for name in _CHOSEN if (value := getattr(wanted, name)) is not None}
    if subdomain := (wanted.tracking_subdomain or "").lower():
        if not _LABEL.fullmatch(subdomain):
            raise invalid("Invalid `tracking_subdomain` field. It must be a name of up to 63 letters, digits, hyphens.")
        chosen["tracking_subdomain"] = subdomain
    return chosen


_TRACKING = frozenset({"open_tracking", "click_tracking", "tracking_subdomain"})
_CHOSEN = frozenset({"tls"}) | _TRACKING


def _require_way(domain: SenderDomain, chosen: dict[str, Any], store: DomainStore) -> None:
    """Tracked links must lead somewhere, where they are chosen. Raises ApiError, which names the field."""
    if not chosen.keys() & _TRACKING:
        return
    domain = replace(domain, **chosen)
    if domain.tracking_subdomain and not store.hosts.tracking_host:
        raise invalid(
            "Invalid `tracking_subdomain` field. This server has no name that it could lead to: "
            "set NIGHTMAIL_TRACKING_HOST or NIGHTMAIL_PUBLIC_URL."
        )
    if domain.tracking_subdomain and domain.tracking_subdomain == domain.return_path:
        raise invalid("Invalid `tracking_subdomain` field. It is the domain's return path.")
    if domain.tracking_subdomain or store.tracking_url:
        return
    for name in ("open_tracking", "click_tracking"):
        if getattr(domain, name):
            raise invalid(
                f"Invalid `{name}` field. Tracked links would lead nowhere: "
                "give a `tracking_subdomain`, or set NIGHTMAIL_PUBLIC_URL."
            )


def _chosen_once(wanted: NewDomainRequest) -> dict[str, Any]:
    if wanted.region is not None and wanted.region not in REGIONS:
        words = " | ".join(f'"{region}"' for region in REGIONS)
        raise ApiError(422, "invalid_region", f"Region must be {words}")
    return_path = (wanted.custom_return_path or "send").lower()
    if not _LABEL.fullmatch(return_path):
        raise invalid("Invalid `custom_return_path` field. It must be a name of up to 63 letters, digits and hyphens.")
    return {"region": wanted.region or REGIONS[0], "return_path": return_path}


def _reference(domain: SenderDomain | None) -> Response:
    if domain is None:
        raise not_found("Domain")
    return json_response({"object": "domain", "id": domain.id})


def _brief(domain: SenderDomain, hosts: Hosts) -> dict[str, Any]:
    return {
        "id": domain.id,
        "name": domain.name,
        "status": domain.status(hosts),
        "created_at": timestamp(domain.created_at),
        "region": domain.region,
        "capabilities": CAPABILITIES,
        "open_tracking": domain.open_tracking,
        "click_tracking": domain.click_tracking,
    }


def _whole(domain: SenderDomain, hosts: Hosts) -> dict[str, Any]:
    records = [record.shown() for record in domain.records(hosts)]
    named = {"tracking_subdomain": domain.tracking_subdomain} if domain.tracking_subdomain else {}
    return _brief(domain, hosts) | named | {"tls": domain.tls, "records": records, OURS: {"advice": [_DMARC]}}


_DMARC = {"record": "DMARC", "name": "_dmarc", "type": "TXT", "ttl": "Auto", "value": DMARC}
