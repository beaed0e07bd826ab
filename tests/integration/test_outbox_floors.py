"""Below a floor nothing is accepted, deliveries go on, and accepting resumes by itself."""

import os
from types import SimpleNamespace

import httpx
import pytest

from outbox.errors import Full
from runtime.clock import now
from tests.fixtures.acceptor import an_acceptor
from tests.fixtures.api_stack import MAIL, running
from tests.fixtures.mail import a_submission, an_attempt
from tests.fixtures.valkey import ValkeyServer
from tests.fixtures.waiting import until


class Disk:
    """A disk whose free space a test sets."""

    def __init__(self):
        self.free = 0.5

    def __call__(self, folder):
        real = os.statvfs(folder)
        free = int(self.free * real.f_blocks)
        return SimpleNamespace(f_blocks=real.f_blocks, f_bavail=free, f_frsize=real.f_frsize, f_files=0, f_favail=0)


def fresh():
    return a_submission(now=now())


def refuses(acceptor):
    try:
        acceptor.demand()
    except Full:
        return True
    return False


async def test_a_full_disk_refuses_mail_and_delivers_what_there_is(settings):
    """Below the floor accept raises Full, claims and settlements go on, and with space it takes mail again."""
    disk = Disk()
    async with an_acceptor(settings, read_disk=disk) as (acceptor, outbox):
        await acceptor.accept([fresh()])
        disk.free = 0.01
        await until(lambda: refuses(acceptor), seconds=2)
        with pytest.raises(Full, match="bytes"):
            await acceptor.accept([fresh()])
        (claim,) = await outbox.claim("one.test", channel="c", limit=5, now=now())
        assert await outbox.settle(claim, an_attempt(claim), worker="w", now=now(), next_attempt_at=None)
        disk.free = 0.5
        await until(lambda: not refuses(acceptor), seconds=2)
        await acceptor.accept([fresh()])


async def test_a_disk_that_was_full_before_the_start(settings):
    """The first look comes before the first accept."""
    disk = Disk()
    disk.free = 0.0
    async with an_acceptor(settings, read_disk=disk) as (acceptor, _):
        with pytest.raises(Full):
            await acceptor.accept([fresh()])


async def test_a_disk_that_cannot_be_looked_at_refuses_nobody(settings):
    """Not to know is no reason to refuse: a journal that fails is noticed when it fails."""

    def broken(folder):
        raise PermissionError(13, "no", str(folder))

    async with an_acceptor(settings, read_disk=broken) as (acceptor, _):
        await acceptor.accept([fresh()])


async def test_full_memory_refuses_before_it_is_full(settings, tmp_path):
    """Over HTTP at four fifths of maxmemory: 507 with Retry-After before the body is read, until there is room."""
    with ValkeyServer(tmp_path / "valkey") as server, server.client() as admin:
        settings = settings.model_copy(update={"redis_url": type(settings.redis_url)(server.url())})
        async with running(settings, with_control=False) as api:
            used = admin.info("memory")["used_memory"]
            admin.config_set("maxmemory", int(used / 0.85))

            async def refused():
                return (await api.client.post("/emails", json=MAIL)).status_code == httpx.codes.INSUFFICIENT_STORAGE

            await until(refused, seconds=3)
            answer = await api.client.post("/emails", content=b"{")
            assert answer.status_code == 507
            assert answer.headers["retry-after"] == "5"
            assert answer.json()["name"] == "insufficient_storage"
            admin.config_set("maxmemory", 0)

            async def taken():
                return (await api.client.post("/emails", json=MAIL)).status_code == 200

            await until(taken, seconds=3)
