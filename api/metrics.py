"""GET /emails/metrics, in Resend's form. Needs the history.

What is counted, and when, is in history/tally.py. A number is of recipients, at the time at which it happened to them.
"""

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from starlette.concurrency import run_in_threadpool

from api import openapi
from api.answer import json_response
from api.auth import KeyGuard
from api.errors import invalid_parameter
from api.metrics_answer import answer
from api.metrics_query import PARAMETERS, Question, read_question
from history.counting import Count
from history.queries import History
from outbox.domain_store import DomainStore
from outbox.policy import ApiKey
from runtime import clock

_MOST_COUNTS = 100_000  # that one answer is made of


def router(history: History, domains: DomainStore, owner: KeyGuard) -> APIRouter:
    """The route."""
    routes = APIRouter(tags=["emails"])
    Owner = Annotated[ApiKey, Depends(owner)]  # noqa: N806  (a type)

    @routes.get("/emails/metrics", responses=openapi.errors(422), openapi_extra=PARAMETERS)
    async def get_metrics(request: Request, _key: Owner) -> Response:
        """How many emails were sent, delivered, bounced and so on, in all and broken down. Rates are from 0 to 1."""
        question = read_question(request.query_params, now=clock.now())
        asks_domains = question.domain_ids is not None or "domain" in question.dimensions
        ids = {domain.name: domain.id for domain in await domains.all()} if asks_domains else {}

        def answered() -> Response:
            return json_response(answer(question, _counts(history, question, ids), ids))

        return await run_in_threadpool(answered)

    return routes


def _counts(history: History, question: Question, ids: Mapping[str, str]) -> list[Count]:
    """What the history says of the time and the domains that are asked for."""
    names = _names(question, ids)
    if question.broadcast_ids:
        return []
    if question.email_ids:
        found = history.counts_of(question.email_ids)
        within = (count for count in found if count.at and question.since <= count.at < question.until)
        return [count for count in within if names is None or count.domain in names]
    counts = history.counts(
        question.since,
        question.until,
        domains=names,
        by_time="period" in question.dimensions,
        by_domain="domain" in question.dimensions,
        most=_MOST_COUNTS,
    )
    if len(counts) == _MOST_COUNTS:
        raise invalid_parameter("dimensions", "These would be too many rows: ask for a shorter time.")
    return counts


def _names(question: Question, ids: Mapping[str, str]) -> list[str] | None:
    if question.domain_ids is None:
        return None
    names = {domain_id: name for name, domain_id in ids.items()}
    if unknown := [domain_id for domain_id in question.domain_ids if domain_id not in names]:
        raise invalid_parameter("domain_id", f"There is no domain {unknown[0]}.")
    return [names[domain_id] for domain_id in question.domain_ids]
