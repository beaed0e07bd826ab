"""Addresses that open one thing to whoever has them, until they expire: signed, and nothing is kept of them."""

import time
from collections.abc import Callable
from datetime import timedelta
from typing import Annotated

from fastapi import Path

from api.errors import ApiError
from runtime.secret import load_secret
from runtime.settings import Settings
from runtime.signing import Signer

Expires = Annotated[str, Path(description="Unix time")]
_BAD = ApiError(403, "validation_error", "This address is not valid, or has expired.")


class SignedAddresses:
    """Makes the addresses of one purpose, which begin with `path`, and checks them."""

    def __init__(self, settings: Settings, path: str, *, purpose: str, now: Callable[[], float] = time.time) -> None:
        self._signer = Signer(load_secret(settings), purpose)
        self._base = f"{settings.public}{path}"
        self._now = now

    def of(self, *words: str, life: timedelta) -> tuple[str, int]:
        """The address of what these words name, and when it expires in Unix time."""
        expires = int(self._now() + life.total_seconds())
        return "/".join((self._base, *words, str(expires), self._signer.sign(*words, str(expires)))), expires

    def check(self, *words: str, expires: str, signature: str) -> None:
        """Raises ApiError 403 when the address is not ours, or too old."""
        if not self._signer.fits(signature, *words, expires) or int(expires) < self._now():
            raise _BAD
