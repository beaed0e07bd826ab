"""Open and click tracking: what goes into a mail, and what of it comes back.

A tracked link leads to the send API and carries where it goes on to, under a signature: so nothing is stored for it,
and it works with every store down. Only what was signed is followed.
"""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from outbox.html_links import replaced
from runtime.clock import from_ms, to_ms
from runtime.secret import load_secret
from runtime.settings import Settings
from runtime.signing import Signer

LONGEST = 2_000  # octets of an address; of a longer one the tracked form would be too long for some programs
_WEB = re.compile(r"https?://[^/?#\\]", re.IGNORECASE)
_SPACES = "".join(map(chr, range(0x21)))  # and control characters
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_KEPT = "".join(map(chr, range(0x21, 0x7F)))  # stays as it is in a Location


@dataclass(frozen=True, slots=True)
class Tracked:
    """The message of an address that came back, and when it was accepted."""

    message_id: str
    created_at: datetime


class Tracking:
    """Makes the addresses and checks them. All processes of an installation agree, now and later (NIGHTMAIL_SECRET)."""

    def __init__(self, settings: Settings) -> None:
        self._signer = Signer(load_secret(settings), "tracked links")
        self._own = settings.tracking_url

    def track(self, html: str, domain: dict[str, Any], tracked: Tracked, *, except_for: str = "") -> str | None:
        """The HTML as `domain`, a policy object, wants it tracked; None: as it is.

        Addresses that stand in `except_for` are left alone.
        """
        base = f"https://{host}" if (host := domain.get("tracking_host")) else self._own
        opens, clicks = domain.get("open_tracking"), domain.get("click_tracking")
        if not base or not (opens or clicks):
            return None

        def link(written: str) -> str | None:
            url = followed(written) if clicks else None
            return None if url is None or f"<{written}>" in except_for else self._click(base, tracked, url)

        image = f'<img src="{self._open(base, tracked)}" alt="" width="1" height="1" style="border:0">' if opens else ""
        return replaced(html, link, closing=image)

    def _open(self, base: str, tracked: Tracked) -> str:
        place = _place(tracked)
        return f"{base}/o/{'/'.join(place)}/{self._signer.sign('open', *place)}"

    def _click(self, base: str, tracked: Tracked, url: str) -> str:
        place = _place(tracked)
        packed = urlsafe_b64encode(url.encode()).rstrip(b"=").decode()
        return f"{base}/c/{'/'.join(place)}/{self._signer.sign('click', *place, url)}/{packed}"

    def opened(self, message_id: str, at: str, signature: str) -> Tracked | None:
        """Which message shows the image of this address; None: it is not ours."""
        return _tracked(message_id, at) if self._signer.fits(signature, "open", message_id, at) else None

    def clicked(self, message_id: str, at: str, signature: str, packed: str) -> tuple[Tracked, str] | None:
        """Which message has this link, and where it leads; None: it is not ours."""
        try:
            url = urlsafe_b64decode(packed + "=" * (-len(packed) % 4)).decode("ascii")
        except (NotBase64, ValueError):
            return None
        if not self._signer.fits(signature, "click", message_id, at, url) or followed(url) != url:
            return None
        return _tracked(message_id, at), url


def followed(written: str) -> str | None:
    """Where a browser goes that follows this address, in ASCII; None: not into the web, or not a plain way there.

    As in the URL standard: spaces around it and line breaks within do not count. Names that are not ASCII and
    addresses with a password are left to themselves.
    """
    url = re.sub(r"[\t\n\r]", "", written.strip(_SPACES))
    if not _WEB.match(url) or _CONTROL.search(url):
        return None
    url = quote(url, safe=_KEPT, errors="replace")
    host = re.split(r"[/?#\\]", url.partition("://")[2], maxsplit=1)[0]
    return url if len(url) <= LONGEST and "@" not in host and "%" not in host else None


def _place(tracked: Tracked) -> tuple[str, str]:
    return tracked.message_id, f"{to_ms(tracked.created_at):x}"


def _tracked(message_id: str, at: str) -> Tracked:
    return Tracked(message_id, from_ms(int(at, 16)))
