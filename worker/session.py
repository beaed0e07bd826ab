"""From a next hop to an open SMTP session: connect, greeting, EHLO, STARTTLS, AUTH (RFC 5321, 3207, 4954)."""

import base64
import ssl
import time
from dataclasses import dataclass

from worker.client import Client
from worker.errors import AuthFailed, ConnectionLost, HopRefused, TlsFailed
from worker.hop import Hop, Tls
from worker.reply import Code, Reply
from worker.timeouts import RFC5321, Timeouts
from worker.wire import Wire

Steps = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class TlsContexts:
    """Made once per process: loading the trust store takes tens of milliseconds."""

    verified: ssl.SSLContext
    opportunistic: ssl.SSLContext

    @classmethod
    def default(cls) -> "TlsContexts":
        """The system's trust store; and for MX hosts one that trusts any certificate (RFC 7435)."""
        opportunistic = ssl.create_default_context()
        opportunistic.check_hostname = False
        opportunistic.verify_mode = ssl.CERT_NONE
        return cls(ssl.create_default_context(), opportunistic)


class Opener:
    """Opens sessions under one name, with one set of timeouts."""

    def __init__(self, hello_name: str, *, tls: TlsContexts, timeouts: Timeouts = RFC5321) -> None:
        self._hello_name = hello_name
        self._tls = tls
        self._timeouts = timeouts

    async def open(self, hop: Hop) -> tuple[Client, Steps]:
        """A session ready for MAIL, and the time of its steps. Raises DeliveryError."""
        steps: Steps = []
        started = time.perf_counter()
        wire = await Wire.connect(hop.address or hop.host, hop.port, timeout=self._timeouts.connect)
        try:
            features = await self._prepare(wire, hop, steps, started)
        except BaseException:
            wire.abort()
            raise
        return Client(wire, hop, features=features, timeouts=self._timeouts), steps

    async def _prepare(self, wire: Wire, hop: Hop, steps: Steps, started: float) -> dict[str, str]:
        steps.append(("connect", _since(started)))
        if hop.tls is Tls.IMPLICIT:
            await self._encrypt(wire, hop, steps)
        greeting = await wire.reply(self._timeouts.greeting)
        if not greeting.positive:
            raise HopRefused(f"greeting: {greeting}", greeting)
        features = await self._hello(wire)
        steps.append(("hello", round(_since(started) - sum(ms for _, ms in steps), 2)))
        if hop.tls in (Tls.STARTTLS, Tls.OPPORTUNISTIC):
            features = await self._starttls(wire, hop, features, steps)
        if hop.user:
            await self._authenticate(wire, hop, features, steps)
        return features

    async def _hello(self, wire: Wire) -> dict[str, str]:
        """EHLO, or HELO to a server of before 1995 (RFC 5321 section 3.2). Gives the extensions it offers."""
        reply = await self._ask(wire, f"EHLO {self._hello_name}", self._timeouts.hello)
        if reply.positive:
            return _features(reply)
        if reply.permanent:
            reply = await self._ask(wire, f"HELO {self._hello_name}", self._timeouts.hello)
            if reply.positive:
                return {}
        raise HopRefused(f"EHLO: {reply}", reply)

    async def _starttls(self, wire: Wire, hop: Hop, features: dict[str, str], steps: Steps) -> dict[str, str]:
        if "STARTTLS" not in features:
            if hop.tls is Tls.OPPORTUNISTIC:
                return features
            raise TlsFailed("the next hop does not offer STARTTLS")
        reply = await self._ask(wire, "STARTTLS", self._timeouts.tls)
        if not reply.positive:
            raise TlsFailed(f"STARTTLS: {reply}", reply)
        await self._encrypt(wire, hop, steps)
        return await self._hello(wire)  # RFC 3207 section 4.2: what was offered in the clear does not count

    async def _encrypt(self, wire: Wire, hop: Hop, steps: Steps) -> None:
        started = time.perf_counter()
        context = self._tls.opportunistic if hop.tls is Tls.OPPORTUNISTIC else self._tls.verified
        await wire.start_tls(context, host=hop.host, limit=self._timeouts.tls)
        steps.append(("tls", _since(started)))

    async def _authenticate(self, wire: Wire, hop: Hop, features: dict[str, str], steps: Steps) -> None:
        started = time.perf_counter()
        mechanisms = features.get("AUTH", "").upper().split()
        if "PLAIN" in mechanisms:  # RFC 4616
            reply = await self._ask(wire, f"AUTH PLAIN {_base64(f'{chr(0)}{hop.user}{chr(0)}{hop.password}')}")
        elif "LOGIN" in mechanisms:
            reply = await self._ask(wire, "AUTH LOGIN")
            for word in (hop.user, hop.password):
                if reply.code == Code.AUTH_GOES_ON:
                    reply = await self._ask(wire, _base64(word))
        else:
            raise AuthFailed(f"the next hop offers neither PLAIN nor LOGIN but: {features.get('AUTH', 'no AUTH')}")
        if reply.code != Code.AUTH_DONE:
            raise AuthFailed(f"AUTH: {reply}", reply)
        steps.append(("auth", _since(started)))

    async def _ask(self, wire: Wire, line: str, limit: float | None = None) -> Reply:
        wire.write(line.encode() + b"\r\n")
        reply = await wire.reply(limit or self._timeouts.auth)
        if reply.closing:
            raise ConnectionLost(str(reply), reply)
        return reply


def _features(reply: Reply) -> dict[str, str]:
    """EHLO keywords, upper case, and their parameters (RFC 5321 section 4.1.1.1). The first line is a greeting."""
    words = [line.partition(" ") for line in reply.lines[1:]]
    return {keyword.upper(): parameters.strip() for keyword, _, parameters in words}


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _since(started: float) -> float:
    """Milliseconds, to the hundredth: steps are for people."""
    return round((time.perf_counter() - started) * 1000, 2)
