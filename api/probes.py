"""What both apps tell their operator: /livez, /readyz, /metrics. None of them touches the database."""

from collections.abc import Callable, Iterable

from fastapi import APIRouter, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from redis.asyncio import Redis

from api.answer import json_response
from outbox.backlog import Backlog, backlog
from runtime import clock
from runtime.connections import StoreError
from runtime.settings import Settings


def router(settings: Settings, redis: Redis, *, ready: Callable[[], bool]) -> APIRouter:
    """The three endpoints. `ready` answers /readyz from memory."""
    routes = APIRouter(tags=["operating"])

    @routes.get("/livez", summary="The process runs")
    async def livez() -> Response:
        return _status(well=True)

    @routes.get("/readyz", summary="The process can do its work", responses={503: {"description": "Not now"}})
    async def readyz() -> Response:
        return _status(well=ready())

    @routes.get("/metrics", summary="Metrics in Prometheus' text form", response_class=PlainTextResponse)
    async def metrics() -> Response:
        of_backlog = CollectorRegistry()
        of_backlog.register(_BacklogGauges(await _read(redis, settings)))
        return Response(generate_latest() + generate_latest(of_backlog), media_type=CONTENT_TYPE_LATEST)

    return routes


def _status(*, well: bool) -> Response:
    return json_response({"status": "ok" if well else "unavailable"}, 200 if well else 503)


async def _read(redis: Redis, settings: Settings) -> Backlog | None:
    try:
        return await backlog(redis, settings, now=clock.now())
    except StoreError:
        return None


class _BacklogGauges(Collector):
    """The backlog at the moment of the scrape, as gauges; only `nightmail_queue_up` when the queue is away."""

    def __init__(self, found: Backlog | None) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        found = self._found
        yield _gauge("nightmail_queue_up", "1 when the queue answers", 0 if found is None else 1)
        if found is None:
            return
        yield _gauge("nightmail_backlog_depth", "Recipients that wait or are being sent", found.depth)
        yield _gauge("nightmail_backlog_in_flight", "Recipients being sent", found.in_flight)
        yield _gauge("nightmail_backlog_oldest_due_seconds", "Age of the oldest due delivery", found.oldest_due_age)
        yield _gauge("nightmail_backlog_lanes", "Lanes with waiting work", found.lanes_waiting)
        yield _gauge("nightmail_recorder_behind_events", "Events not yet in the history", found.recorder.behind)
        yield _gauge("nightmail_recorder_behind_seconds", "Age of the first of them", found.recorder.behind_seconds)
        yield _gauge("nightmail_queue_lost", "1 while the queue waits for a rebuild", int(found.queue == "lost"))
        if found.audit:
            yield _gauge("nightmail_unaccounted", "Recipients in no store; must be 0", found.audit["unaccounted"])
            yield _gauge("nightmail_audit_timestamp_seconds", "When the last audit began", found.audit["at"] / 1000)
        states = GaugeMetricFamily("nightmail_recipients", "Recipients by state", labels=["state"])
        for state, count in found.states.items():
            states.add_metric([state], count)
        yield states


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(name, meaning, value=value)
