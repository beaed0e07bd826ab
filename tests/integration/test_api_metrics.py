"""Numbers about mail, asked for by the official SDK, and what is said without the database."""

from datetime import UTC, datetime, timedelta

import pytest
import resend
from resend.exceptions import ResendError

from tests.fixtures import api_stack
from tests.fixtures.api_stack import MAIL

api = api_stack.api
NONSENSE = {
    "start_date=2026-01-02&end_date=2026-01-01": "start_date",
    "start_date=yesterday": "start_date",
    "timezone=../../etc/passwd": "timezone",
    "granularity=yearly": "granularity",
    "metrics=sent,seen": "metrics",
    "dimensions=period&granularity=hourly&start_date=2020-01-01": "granularity",
    "dimensions=email": "dimensions",
    "dimensions=email,broadcast": "Emails and broadcasts",
    "domain_id=acme.test": "domain_id",
    "domain_id=01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae": "domain_id",
}


async def send(api, *, sender="on@acme.test", to=("you@there.test",)):
    return (await api.sdk(resend.Emails.send, MAIL | {"from": sender, "to": list(to)}))["id"]


async def test_totals_and_breakdowns(api):
    """Numbers in all, by day, by domain and of one email; rates are shares of one."""
    made = await api.sdk(resend.Domains.create, {"name": "acme.test"})
    await api.store.set_domain("acme.test", verified=True)
    await api.parts.policy.refresh()
    first = await send(api, to=("ann@one.test", "bob@one.test"))
    await send(api, sender="on@other.test")
    await api.record()

    got = await api.sdk(resend.Emails.metrics, {})
    assert (got["object"], got["dimensions"], got["granularity"]) == ("metrics", [], "daily")
    assert len(got["metrics"]) == len(got["totals"]) == 22
    assert (got["totals"]["sent"], got["totals"]["delivered"], got["totals"]["delivery_rate"]) == (3, 0, 0)
    assert "data" not in got

    today = datetime.now(UTC).strftime("%Y-%m-%dT00:00:00+00:00")
    got = await api.sdk(resend.Emails.metrics, {"metrics": ["sent"], "dimensions": ["period"]})
    assert (len(got["data"]), got["data"][-1]) == (7, {"period": today, "sent": 3})
    got = await api.sdk(resend.Emails.metrics, {"metrics": ["sent"], "dimensions": ["domain"]})
    assert got["data"] == [
        {"domain_id": made["id"], "domain_name": "acme.test", "sent": 2},
        {"domain_id": None, "domain_name": "other.test", "sent": 1},
    ]
    got = await api.sdk(resend.Emails.metrics, {"domain_id": [made["id"]], "metrics": ["sent"]})
    assert got["totals"] == {"sent": 2}
    options = {"email_id": [first], "metrics": ["sent", "bounced"], "dimensions": ["email", "period"]}
    got = await api.sdk(resend.Emails.metrics, options)
    assert got["data"] == [{"email_id": first, "period": today, "sent": 2, "bounced": 0}]
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    got = await api.sdk(resend.Emails.metrics, {"end_date": tomorrow, "timezone": "Asia/Kolkata"})
    assert got["end_date"] < tomorrow  # there is nothing after now


async def test_questions_that_make_no_sense(api):
    """They are refused, and the parameter is named."""
    for query, named in NONSENSE.items():
        answer = await api.client.get(f"/emails/metrics?{query}")
        assert (query, answer.status_code) == (query, 422)
        assert named in answer.json()["message"]


async def test_usage(api):
    """Recipients of today and of this month; without a limit, since there is none."""
    await send(api, to=("ann@one.test", "bob@one.test"))
    await api.record()
    got = await api.sdk(resend.Usage.get)
    assert got["object"] == "usage"
    assert [got["emails"][span][name] for span in ("daily", "monthly") for name in ("used", "limit")] == [2, None] * 2
    assert got["rate_limit"] == {"limit": api.settings.rate_limit, "duration": "1000ms"}
    assert got["domains"] == {"used": 0, "limit": None}


async def test_without_the_database(settings):
    """What cannot be counted now is not 0: the client is to come again."""
    down = settings.model_copy(update={"chaos": True})
    async with api_stack.running(down) as api:
        await api.record()
        await api.client.post("/chaos/database", json={"mode": "down", "for_seconds": 60})
        for path in ("/emails/metrics", "/usage"):
            answer = await api.client.get(path)
            assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
        with pytest.raises(ResendError):
            await api.sdk(resend.Usage.get)
        await api.client.post("/chaos/database", json={"mode": "up"})
