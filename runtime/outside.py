"""HTTP to URLs that strangers chose: webhooks, and attachments by URL. The guard against reaching into our own network.

A name is resolved once, every address it has is checked (runtime/reachable.py), and the connection goes to a checked
one, so no second answer of the DNS can lead elsewhere; TLS and Host still speak of the name. Redirects are not
followed, proxies of the environment not used, bodies not decompressed; time and size are bounded. What is in doubt is
refused.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncGenerator, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit

import httpcore

from runtime.cut_off import cut_off_as
from runtime.networks import Network
from runtime.reachable import is_reachable

_STANDARD_PORTS = {"http": 80, "https": 443}
_FIRST_USER_PORT = 1024  # RFC 6335 section 6: below lie SMTP, SSH and the like, which a POST could talk to
_LONGEST_URL = 2048
_CONNECT_SECONDS = 5.0
_LOOKUPS = 16  # at once


class Refused(Exception):
    """The URL may not be asked, in words for whoever chose it. It never says what an address answered."""


class Unreachable(Exception):
    """There was no answer: no such name, no connection, no TLS, not in time, or not HTTP."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` has at most what was asked for; `whole` says whether that is all of it."""

    status: int
    headers: dict[str, str]
    body: bytes
    whole: bool


def check_url(url: str, allowed: Iterable[Network] = ()) -> SplitResult:
    """The parts of a URL that may be asked, as far as can be told without looking its name up. Raises Refused."""
    try:
        parts = urlsplit(url)
        port = parts.port
        (parts.hostname or "").encode("idna")
    except (ValueError, UnicodeError):
        raise Refused("it is not a URL") from None
    if parts.scheme not in _STANDARD_PORTS or not parts.hostname or len(url) > _LONGEST_URL:
        raise Refused("it must be an http or https URL")
    if not url.isprintable() or " " in url or not f"{parts.path}{parts.query}".isascii():
        raise Refused("it must be percent-encoded")
    if parts.username is not None or parts.password is not None:
        raise Refused("it must not contain a user or password")
    if port is not None and port < _FIRST_USER_PORT and port not in _STANDARD_PORTS.values():
        raise Refused(f"port {port} is not allowed")
    if _is_literal(parts.hostname) and not is_reachable(parts.hostname, allowed):
        raise Refused("it must not lead to a private address")
    return parts


class Outside:
    """A client for such URLs. `close` it at the end."""

    def __init__(
        self, allowed: tuple[Network, ...] = (), *, connections: int = 100, trust: ssl.SSLContext | None = None
    ) -> None:
        """Private networks that are `allowed` may be reached all the same. `trust`: other authorities than usual."""
        self._allowed = allowed
        # A look-up can hang for half a minute, and in the threads of the event loop all others would wait behind it.
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "lookup")
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=trust or _usual_authorities(),
            max_connections=connections,
            max_keepalive_connections=0,  # a kept connection would outlive the check of its address
            network_backend=_CheckedBackend(self._allowed, self._lookups),
        )

    async def close(self) -> None:
        """Close what is open. A look-up that hangs is left alone."""
        self._lookups.shutdown(wait=False, cancel_futures=True)
        await self._pool.aclose()

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        content: bytes | None = None,
        most: int,
        seconds: float,
    ) -> Answer:
        """One request, with at most `most` octets of the answer's body, in `seconds` all in all.

        Raises Refused or Unreachable.
        """
        parts = check_url(url, self._allowed)
        target = _ascii(parts._replace(fragment="")).geturl()
        try:
            with cut_off_as(httpcore.ConnectError):
                async with asyncio.timeout(seconds):
                    return await self._ask(method, target, headers, content, most)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as failure:
            raise Unreachable(_words(failure)) from failure

    async def _ask(self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, most: int) -> Answer:
        stream = self._pool.stream(method, url, headers=list(headers.items()), content=content)
        async with stream as response:
            body = bytearray()
            async with contextlib.aclosing(cast("AsyncGenerator[bytes]", response.aiter_stream())) as chunks:
                async for chunk in chunks:
                    body += chunk
                    if len(body) > most:
                        break
            said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
            return Answer(response.status, said, bytes(body[:most]), whole=len(body) <= most)


@cache
def _usual_authorities() -> ssl.SSLContext:
    """Those of this machine; reading them takes tens of milliseconds."""
    return ssl.create_default_context()


class _CheckedBackend(httpcore.AsyncNetworkBackend):
    """Connects to checked addresses only. httpcore gives it the name and keeps that for TLS and Host."""

    def __init__(self, allowed: tuple[Network, ...], lookups: ThreadPoolExecutor) -> None:
        self._allowed = allowed
        self._lookups = lookups
        self._inner = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109  (the base class's; ours is fixed)
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        failure: Exception = httpcore.ConnectError("no address")
        for address in await self._addresses(host, port):
            try:
                return await self._inner.connect_tcp(address, port, _CONNECT_SECONDS, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure

    async def _addresses(self, host: str, port: int) -> list[str]:
        """All addresses of the name. One that may not be reached refuses the name as a whole."""
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
        found = await asyncio.get_running_loop().run_in_executor(self._lookups, look_up)
        addresses = list(dict.fromkeys(str(place[0]) for *_, place in found))
        if not all(is_reachable(address, self._allowed) for address in addresses):
            raise Refused("it leads to a private address")
        return addresses

    async def connect_unix_socket(self, *_: Any, **__: Any) -> httpcore.AsyncNetworkStream:
        raise Refused("it leads to a private address")

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def _ascii(parts: SplitResult) -> SplitResult:
    """The URL with its name as an A-label."""
    host = parts.hostname or ""
    if host.isascii():
        return parts
    port = "" if parts.port is None else f":{parts.port}"
    return parts._replace(netloc=host.encode("idna").decode() + port)


def _is_literal(host: str) -> bool:
    """Whether it is an address and no name; also in the old notations that a resolver may take (0x7f.1, 2130706433)."""
    last = host.rstrip(".").rpartition(".")[2]
    return ":" in host or last.isdigit() or last.lower().startswith("0x")


def _words(failure: Exception) -> str:
    """A short, bounded reason."""
    match failure:
        case TimeoutError() | httpcore.TimeoutException():
            return "no answer in time"
        case socket.gaierror():
            return "the name cannot be resolved"
        case httpcore.ConnectError():
            return "no connection"
        case httpcore.ProtocolError():
            return "the answer is not HTTP"
    return "the connection broke"
