"""GET /usage, in Resend's form. Needs the history.

Mail is counted by its recipients, in days and months of UTC. There are no quotas here, so limits are null; what this
server does not do is 0 of 0.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from history.queries import History
from outbox.domain_store import DomainStore
from outbox.policy import ApiKey
from runtime import clock
from runtime.clock import iso

_NOT_HERE = {"used": 0, "limit": 0}


def router(history: History, domains: DomainStore, owner: KeyGuard, *, rate_limit: int) -> APIRouter:
    """The route. `rate_limit` is that of keys without their own, in requests per second."""
    routes = APIRouter(tags=["operating"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/usage", responses=openapi.errors())
    async def get_usage(key: Owner) -> Response:
        """What was sent today and this month, and the rate limit of the key that asks."""
        now = clock.now()
        today = now.replace(hour=0, minute=0, second=0, microsecond=0)
        tomorrow, next_month = today + timedelta(days=1), (today.replace(day=1) + timedelta(days=32)).replace(day=1)

        def sent() -> tuple[int, int]:
            return _sent(history, today, now), _sent(history, today.replace(day=1), now)

        daily, monthly = await run_in_threadpool(sent)
        return json_response(
            {
                "object": "usage",
                "emails": {"daily": _mail(daily, tomorrow), "monthly": _mail(monthly, next_month)},
                "contacts": _NOT_HERE,
                "segments": _NOT_HERE,
                "broadcasts": _NOT_HERE | {"limit": None},
                "ai_credits": _NOT_HERE | {"next_increase_at": None},
                "automation_runs": _NOT_HERE | {"resets_at": iso(next_month)},
                "domains": {"used": len(await domains.all()), "limit": None},
                "rate_limit": {"limit": key.rate_limit or rate_limit, "duration": "1000ms"},
            }
        )

    return routes


def _sent(history: History, since: datetime, until: datetime) -> int:
    return sum(count.amounts["sent"] for count in history.counts(since, until))


def _mail(sent: int, resets_at: datetime) -> dict[str, Any]:
    return {"used": sent, "limit": None, "sent": sent, "received": 0, "resets_at": iso(resets_at)}
