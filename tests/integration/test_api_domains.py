"""Domains and API keys by the unmodified SDK: Resend's answers, Resend's refusals, without a database."""

import asyncio

import httpx
import pytest
import resend
from resend.exceptions import ResendError

from outbox.domain_store import DomainStore
from outbox.errors import KeyUnknown
from outbox.sender_domain import Found, Status
from runtime.sealing import Seal
from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.waiting import until

api = api_stack.api
UNKNOWN = "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"


def domains_of(api):
    return DomainStore(api.store, api.settings, Seal.from_settings(api.settings))


async def refused(api, call, *arguments):
    """Status, name and message of the SDK's error."""
    with pytest.raises(ResendError) as caught:
        await api.sdk(call, *arguments)
    return int(caught.value.code), caught.value.error_type, str(caught.value.message)


async def test_the_life_of_a_domain(api):
    """Created with its records, read, changed, asked to verify, listed, and removed."""
    made = await api.sdk(resend.Domains.create, {"name": "Acme.test", "region": "eu-west-1"})
    assert (made["name"], made["status"], made["region"]) == ("acme.test", "not_started", "eu-west-1")
    assert made["capabilities"] == {"sending": "enabled", "receiving": "disabled"}
    assert {(r["record"], r["type"], r["ttl"], r["status"]) for r in made["records"]} == {
        ("SPF", "TXT", "Auto", "not_started"),
        ("DKIM", "TXT", "Auto", "not_started"),
    }
    rsa, ed25519 = (r for r in made["records"] if r["record"] == "DKIM")
    assert rsa["value"].startswith("v=DKIM1; k=rsa; p=MII")
    assert ed25519["value"].startswith("v=DKIM1; k=ed25519; p=")
    assert rsa["name"].endswith("._domainkey")
    (advice,) = made["nightmail"]["advice"]
    assert (advice["name"], advice["value"]) == ("_dmarc", "v=DMARC1; p=none;")

    got = await api.sdk(resend.Domains.get, made["id"])
    assert {**got} | {"object": "domain"} == {**made} | {"object": "domain"} | _headers(got)
    assert await _body(api, resend.Domains.update, {"id": made["id"], "tls": "enforced"}) == _reference(made)
    assert await _body(api, resend.Domains.verify, made["id"]) == _reference(made)
    got = await api.sdk(resend.Domains.get, made["id"])
    assert (got["status"], got["tls"]) == ("pending", "enforced")
    assert {r["status"] for r in got["records"]} == {"pending"}

    listed = await api.sdk(resend.Domains.list)
    assert (listed["object"], listed["has_more"], [d["id"] for d in listed["data"]]) == ("list", False, [made["id"]])
    assert "records" not in listed["data"][0]
    assert await _body(api, resend.Domains.remove, made["id"]) == {**_reference(made), "deleted": True}
    assert await refused(api, resend.Domains.get, made["id"]) == (404, "not_found", "Domain not found")


async def test_there_is_nobody_to_claim_a_domain_from(api):
    """The SDK hears what to do instead."""
    made = await api.sdk(resend.Domains.create, {"name": "acme.test"})
    registered = (409, "validation_error", "The acme.test domain is registered here already.")
    assert await refused(api, resend.Domains.Claims.create, {"name": "Acme.test"}) == registered
    status, name, message = await refused(api, resend.Domains.Claims.create, {"name": "other.test"})
    assert (status, name, "POST /domains" in message) == (404, "not_found", True)
    for call in (resend.Domains.Claims.get, resend.Domains.Claims.verify):
        assert await refused(api, call, made["id"]) == (404, "not_found", "Domain claim not found")
        assert await refused(api, call, made["id"][:-4] + "0000") == (404, "not_found", "Domain not found")


def _headers(answer):
    return {"http_headers": answer["http_headers"]} if "http_headers" in answer else {}


def _reference(made):
    return {"object": "domain", "id": made["id"]}


async def _body(api, call, argument):
    answer = dict(await api.sdk(call, argument))
    answer.pop("http_headers", None)
    return answer


async def test_lists_have_pages(api):
    """Cursors as in Resend: everything without a limit, the newest first, and both directions."""
    store = domains_of(api)
    ids = [(await store.create(f"d{n}.test")).id for n in range(4)][::-1]

    async def listed(**window):
        page = await api.sdk(resend.Domains.list, window)
        return [ids.index(domain["id"]) for domain in page["data"]], page["has_more"]

    assert await listed() == ([0, 1, 2, 3], False)
    assert await listed(limit=3) == ([0, 1, 2], True)
    assert await listed(limit=2, after=ids[1]) == ([2, 3], False)
    assert await listed(limit=2, before=ids[3]) == ([1, 2], True)
    assert (await refused(api, resend.Domains.list, {"limit": 101}))[:2] == (422, "validation_error")
    assert (await refused(api, resend.Domains.list, {"after": UNKNOWN}))[:2] == (422, "validation_error")


WRONG_DOMAINS = [
    ({}, (422, "missing_required_field", "Missing `name` field.")),
    ({"name": "no domain"}, (422, "validation_error", "Invalid `name` field.")),
    ({"name": "a.test", "region": "mars"}, (422, "invalid_region", 'Region must be "us-east-1"')),
    ({"name": "a.test", "custom_return_path": "-x"}, (422, "validation_error", "Invalid `custom_return_path`")),
    ({"name": "a.test", "tls": "maybe"}, (422, "validation_error", "Invalid `tls` field.")),
    ({"name": "a.test", "open_tracking": "yes!"}, (422, "validation_error", "Invalid `open_tracking` field.")),
    ({"name": "a.test", "tracking_subdomain": "a.b"}, (422, "validation_error", "Invalid `tracking_subdomain` field.")),
    (
        {"name": "a.test", "tracking_subdomain": "links"},
        (422, "validation_error", "Invalid `tracking_subdomain` field."),
    ),
    (
        {"name": "a.test", "capabilities": {"receiving": "enabled"}},
        (422, "validation_error", "Invalid `capabilities`"),
    ),
]


async def test_wrong_domains_are_refused(api):
    """Each with the field's name; what we cannot do is not silently left out."""
    for body, expected in WRONG_DOMAINS:
        answer = (await api.client.post("/domains", json=body)).json()
        assert (answer["statusCode"], answer["name"]) == expected[:2]
        assert answer["message"].startswith(expected[2])


async def test_one_name_is_one_domain(api):
    """Of two creations at once, one is told that the name is taken."""
    answers = await asyncio.gather(*(api.client.post("/domains", json={"name": "acme.test"}) for _ in range(2)))
    assert sorted(answer.status_code for answer in answers) == [201, 403]
    (taken,) = (answer.json() for answer in answers if answer.status_code == 403)
    assert taken["name"] == "validation_error"
    assert taken["message"] == "The acme.test domain has been registered already."


async def test_no_change_undoes_another(api):
    """Changes of one domain at the same moment are all kept."""
    store = domains_of(api)
    domain = await store.create("acme.test")
    await asyncio.gather(
        store.ask(domain),
        store.rotate(domain),
        api.store.set_domain("acme.test", verified=True),
        api.client.patch(f"/domains/{domain.id}", json={"tls": "enforced"}),
        store.judge(domain, {f"TXT {domain.keys[0].selector}._domainkey": Found.YES}),
    )
    (after,) = await store.all()
    assert after.asked_at is not None
    assert after.allowed is True
    assert after.tls == "enforced"
    assert len(after.keys) >= 2
    assert after.status(store.hosts) is not Status.NOT_STARTED


async def test_unverified_domains_are_refused(settings):
    """Resend's 403 until the key is seen, and 200 after."""
    async with running(settings.model_copy(update={"verified_domains_only": True})) as api:
        domain = await domains_of(api).create("acme.test")
        answer = await api.client.post("/emails", json=MAIL)
        assert (answer.status_code, answer.json()["name"]) == (403, "validation_error")
        assert answer.json()["message"].startswith("The acme.test domain is not verified. Please, add and verify")
        await domains_of(api).judge(domain, {f"TXT {key.selector}._domainkey": Found.YES for key in domain.keys})
        await until(lambda: api.parts.policy.may_send_from("acme.test"))
        assert (await api.client.post("/emails", json=MAIL)).status_code == 200


async def test_without_the_policy_key_nothing_is_made(settings):
    """No domain without a sealed key: a 503 that says nothing of the inside."""
    async with running(settings.model_copy(update={"policy_key": None})) as api:
        answer = await api.client.post("/domains", json={"name": "acme.test"})
        assert (answer.status_code, answer.json()["name"]) == (503, "service_unavailable")
        assert "retry-after" in answer.headers
        assert (await api.client.get("/domains")).json()["data"] == []


async def test_the_life_of_an_api_key(api):
    """Created, used, listed with its last use, renamed, and deleted."""
    made = await api.sdk(resend.ApiKeys.create, {"name": "app"})
    assert made["token"].startswith("re_")
    await until(lambda: _answers(api, made["token"], 200))
    await api.parts.policy.tell_use()
    listed = await api.sdk(resend.ApiKeys.list)
    assert set(listed["data"][0]) == {"id", "name", "created_at", "last_used_at"}
    by_name = {key["name"]: key for key in listed["data"]}
    assert by_name["app"]["id"] == made["id"]
    assert by_name["app"]["last_used_at"] >= by_name["app"]["created_at"][:19]

    await api.sdk(resend.ApiKeys.update, {"id": made["id"], "name": "renamed"})
    assert "renamed" in {key["name"] for key in (await api.sdk(resend.ApiKeys.list))["data"]}
    removed = await api.sdk(resend.ApiKeys.remove, made["id"])
    assert (removed["object"], removed["id"], removed["deleted"]) == ("api_key", made["id"], True)
    await until(lambda: _answers(api, made["token"], 401))
    assert await refused(api, resend.ApiKeys.remove, made["id"]) == (404, "not_found", "API key not found")


async def _as(api, token, **fields):
    headers = {"Authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, trust_env=False, verify=False) as client:
        return await client.post("/emails", json=MAIL | fields)


async def _answers(api, token, status):
    return (await _as(api, token)).status_code == status


async def test_a_key_of_one_domain(api):
    """A key with sending access to one domain sends from there, from nowhere else, and may do nothing else."""
    domain = await domains_of(api).create("acme.test")
    key = await api.sdk(resend.ApiKeys.create, {"name": "app", "permission": "sending_access", "domain_id": domain.id})
    await until(lambda: _answers(api, key["token"], 200))
    assert (await _as(api, key["token"], **{"from": "x@other.test"})).status_code == 403
    headers = {"Authorization": f"Bearer {key['token']}"}
    answer = (await api.client.get("/domains", headers=headers)).json()
    assert (answer["statusCode"], answer["name"]) == (401, "restricted_api_key")


WRONG_KEYS = [
    ({}, (422, "missing_required_field", "Missing `name` field.")),
    ({"name": "x" * 51}, (422, "validation_error", "Invalid `name` field.")),
    ({"name": "a", "permission": "root"}, (422, "invalid_access", 'Access must be "full_access"')),
    ({"name": "a", "domain_id": UNKNOWN}, (422, "validation_error", "Invalid `domain_id` field.")),
    ({"name": "a", "permission": "sending_access", "domain_id": UNKNOWN}, (404, "not_found", "Domain not found")),
    (
        {"name": "a", "permission": "sending_access", "domain_id": "x"},
        (422, "invalid_parameter", "The `domain_id` must be a valid UUID."),
    ),
]


async def test_wrong_keys_are_refused(api):
    """Each with the field's name; a restriction that would not hold is none."""
    for body, expected in WRONG_KEYS:
        answer = (await api.client.post("/api-keys", json=body)).json()
        assert (answer["statusCode"], answer["name"]) == expected[:2]
        assert answer["message"].startswith(expected[2])


async def test_a_permission_that_is_null_is_absent(api):
    """The key may do everything, as without the field."""
    made = (await api.client.post("/api-keys", json={"name": "app", "permission": None})).json()
    await api.parts.policy.refresh()
    assert api.parts.policy.authenticate(made["token"]).permission == "full_access"


async def test_revocation_needs_no_database(settings, monkeypatch):
    """With the database gone keys are made, listed and revoked, and a process of its own stops taking them."""
    monkeypatch.setenv("NIGHTMAIL_CHAOS", "true")
    async with running(settings) as api:
        answer = await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
        assert answer.status_code == 200
        made = (await api.client.post("/api-keys", json={"name": "app"})).json()
        other = type(api.parts.policy)(api.parts.redis, settings)
        await other.start()
        await until(lambda: _takes(other, made["token"]))
        assert (await api.client.delete(f"/api-keys/{made['id']}")).status_code == 200
        await until(lambda: not _takes(other, made["token"]))
        await other.stop()


def _takes(policy, token):
    try:
        return bool(policy.authenticate(token))
    except KeyUnknown:
        return False
