"""How far each webhook has been told everything: on this machine's disk, for a queue that loses its memory.

A rebuild puts each webhook back to its place, and its events are told again from there on, under the same ids. A place
is a lower bound: one that is old costs messages that the receiver knows already, and never one that it does not.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import orjson

from outbox.journal import sync_folder
from outbox.policy_snapshot import read_snapshot
from outbox.webhook import KIND
from runtime.logs import get
from runtime.settings import Settings

log = get(__name__)


class WebhookPlaces:
    """Keeps them. One per process that tells webhooks; several on a machine write the same."""

    def __init__(self, settings: Settings) -> None:
        self._file = _file(settings.data_dir, settings.queue_prefix)
        self._kept: dict[str, int] | None = None

    def keep(self, places: dict[str, int]) -> None:
        """By webhook. Costs nothing where none has moved. Raises OSError."""
        if places == self._kept:
            return
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=self._file.parent, delete=False) as fresh:  # containers share folders, and pids
            fresh.write(orjson.dumps(places))
            fresh.flush()
            os.fsync(fresh.fileno())
        Path(fresh.name).replace(self._file)
        sync_folder(self._file.parent)
        self._kept = places


def restore(pipe: Any, settings: Settings, others: Iterable[Path], *, after: int) -> None:
    """Put every webhook back to where all was told, as the disks of this and `others` remember it.

    `after` is the last event that stands: those behind it are told again under new numbers. A webhook of which nothing
    is remembered begins there too.
    """
    snapshot = read_snapshot(settings.data_dir / "policy" / "snapshot.json")
    names = snapshot.objects if snapshot else ()
    known = [name.partition("/")[2] for name in names if name.startswith(f"{KIND}/")]
    remembered = [_read(_file(folder, settings.queue_prefix)) for folder in (settings.data_dir, *others)]
    for webhook_id in known:
        place = max((places[webhook_id] for places in remembered if webhook_id in places), default=after)
        pipe.hset(f"{{{settings.queue_prefix}}}:hooks", webhook_id, min(place, after))


def _file(folder: Path, prefix: str) -> Path:
    return folder / "webhooks" / f"{prefix}.json"


def _read(file: Path) -> dict[str, int]:
    try:
        places: dict[str, int] = orjson.loads(file.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as failure:
        log.error("webhooks.places_unreadable", path=str(file), error=str(failure)[:100])
        return {}
    return places
