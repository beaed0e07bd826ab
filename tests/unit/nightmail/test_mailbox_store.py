import asyncio
import sqlite3
from contextlib import closing

import pytest
from httpx import ASGITransport, AsyncClient

from nightmail.mailbox.headers import glance
from nightmail.mailbox.store import Letter, Search, Store
from nightmail.mailbox.view import create_view

HTML = b"""Subject: =?utf-8?q?gr=C3=BC=C3=9Fe_<b>?=\r
Message-ID: <7@x>\r
Content-Type: text/html; charset=utf-8\r
\r
<script>alert(1)</script>
"""


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "mailbox.sqlite")
    yield store
    store.close()


@pytest.fixture
async def client(store):
    async with AsyncClient(transport=ASGITransport(create_view(store)), base_url="http://mailbox") as client:
        yield client


async def put(store: Store, *contents: bytes) -> list[bool]:
    """Put letters and wait until all are answered."""
    answers = [asyncio.get_running_loop().create_future() for _ in contents]
    for content, answer in zip(contents, answers, strict=True):
        store.put(Letter("a@x", ("Jo@y", "k@z"), content), answer.set_result)
    return await asyncio.gather(*answers)


async def test_what_is_answered_is_in_the_file(store, tmp_path):
    """When `kept` is told True, another connection sees the letter."""
    assert await put(store, *[b"Message-ID: <%d@x>\r\n\r\n" % n for n in range(50)]) == [True] * 50
    with closing(sqlite3.connect(tmp_path / "mailbox.sqlite", isolation_level=None)) as db:
        assert db.execute("select count(distinct message_id) from messages").fetchone() == (50,)


async def test_a_store_that_fails_says_so(store, tmp_path):
    """A letter that cannot be written is answered False, and the next one is tried again."""
    with closing(sqlite3.connect(tmp_path / "mailbox.sqlite", isolation_level=None)) as db:
        db.execute("alter table messages rename to elsewhere")
    assert await put(store, b"x") == [False]
    with closing(sqlite3.connect(tmp_path / "mailbox.sqlite", isolation_level=None)) as db:
        db.execute("alter table elsewhere rename to messages")
    assert await put(store, b"x") == [True]


async def test_a_letter_that_cannot_be_written_holds_up_nobody(store):
    """Whatever goes wrong in a turn, each of its letters hears that it is not kept, and the next turn is as ever."""
    heard = []
    store.put(Letter("a@x", ("b@y",), b"innocent"), heard.append)
    store.put(Letter("\ud800@x", ("b@y",), b"no file holds a surrogate"), heard.append)
    assert await put(store, b"innocent too") == [False]
    assert heard == [False, False]
    assert await put(store, b"Subject: =?utf-8?b?a?=\r\n\r\n") == [True]
    assert store.count()["messages"] == 1


async def test_search_and_paging(store):
    """The newest come first; with `after` they come upwards; recipient and subject narrow the list."""
    await put(store, *[b"Subject: number %d\r\n\r\n" % n for n in range(1, 6)])
    assert [m["n"] for m in store.find(Search(limit=2))] == [5, 4]
    assert [m["n"] for m in store.find(Search(limit=2, after=2))] == [3, 4]
    assert [m["n"] for m in store.find(Search(subject="NUMBER 3"))] == [3]
    assert len(store.find(Search(to="jo@Y"))) == 5
    assert store.find(Search(to="nobody")) == []


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        (b"message-id:  <1@x>\r\nSubject: a\r\n b\r\n\r\n", ("<1@x>", "a b")),
        (b"\r\nSubject: body\r\n", ("", "")),
        (b"X: y\r\nSubject: =?utf-8?b?w7w=?=", ("", "ü")),
        (b"Subject: =?nonsense?q?x?=\r\n\r\n", ("", "=?nonsense?q?x?=")),
        (b"Subject: =?utf-8?b?a?=\r\n\r\n", ("", "=?utf-8?b?a?=")),
        (b"Subject: =?utf-7?q?+2AA-?=\r\n\r\n", ("", "\ufffd")),
        (b"Subject: =?unicode_escape?q?=5Cud800?= x\r\n\r\n", ("", "\ufffd x")),
        (b"Subject: one\r\nSubject: two\r\n\r\n", ("", "one")),
        (b"Subject: \xff\r\n\r\n", ("", "\ufffd")),
        (b"", ("", "")),
    ],
)
def test_a_glance_reads_only_the_header(content, seen):
    """Message-ID and Subject come from the header, unfolded and decoded, whatever else the message is."""
    assert glance(content) == seen


async def test_the_view_shows_hostile_mail_harmlessly(store, client):
    """Values are escaped, and a mail's HTML is served apart, sandboxed, without scripts."""
    await put(store, HTML)
    index = await client.get("/")
    assert "grüße &lt;b&gt;" in index.text
    page = await client.get("/view/1")
    assert "<script" not in page.text
    assert 'sandbox=""' in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    html = await client.get("/view/1/html")
    assert html.headers["content-security-policy"].startswith("sandbox; default-src 'none'")
    assert "<script>" in html.text


async def test_the_view_for_programs(store, client):
    """Count, list, one message with its parts, its octets, and the end of all."""
    await put(store, HTML, b"\xff\xfe broken")
    assert (await client.get("/count")).json() == {"messages": 2, "unique_message_ids": 2, "recipients": 4}
    assert [m["n"] for m in (await client.get("/messages", params={"after": 0})).json()["data"]] == [1, 2]
    message = (await client.get("/messages/1")).json()
    assert message["headers"][0] == ["Subject", "grüße <b>"]
    assert message["parts"][0]["content_type"] == "text/html"
    assert (await client.get("/messages/1/raw")).content == HTML
    assert (await client.get("/messages/2")).status_code == 200
    assert (await client.get("/view/2")).status_code == 200
    assert (await client.get("/messages/9")).status_code == 404
    assert (await client.delete("/messages")).json() == {"deleted": 2}
    assert (await client.get("/count")).json()["messages"] == 0


@pytest.mark.parametrize(
    "broken",
    [
        b"To: =?utf-8?b?a?= <x@y>\r\n\r\n",
        b"Content-Type: text/html; charset=utf-7\r\n\r\n+2AA-",
        b"Content-Type: text/html; charset=idna\r\n\r\n..a",
        b"Content-Type: text/html; charset=undefined\r\n\r\nx",
        b"Content-ID: <\xe9>\r\n\r\n",
        b"Content-Disposition: attachment; filename*=utf-7''%2B2AA-\r\n\r\n",
        b"Content-Disposition: attachment; filename*=idna''..a\r\n\r\n",
    ],
)
async def test_the_view_takes_what_nobody_can_decode(store, client, broken):
    """Broken values are shown as they came, or with replacement characters; they are what one looks at a mail for."""
    await put(store, broken)
    for address in ("/", "/messages", "/messages/1", "/view/1", "/view/1/html"):
        assert (await client.get(address)).status_code == 200
