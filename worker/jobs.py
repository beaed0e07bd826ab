"""The RQ jobs: ticks without data, so that a lost or a doubled one is harmless.

Their dotted names are a wire format: jobs in Redis carry them across deploys. Never rename one.
"""

import time
from contextlib import suppress

from outbox.archive_prune import prune_archive
from outbox.archiving import archive_once
from outbox.blob_sweep import sweep_blobs
from outbox.errors import QueueLost
from outbox.retire import retire_once
from outbox.suppression_facts import keep_copy
from runtime import clock
from worker.process import current

CHORE_SECONDS = 20.0  # longest run of one chore; the rest waits for the next tick


def drain() -> None:
    """Work on the due lanes for a slice of time (worker/drain.py)."""
    current().work_slice()


def webhooks() -> None:
    """Tell webhooks for a slice of time (worker/webhooks.py)."""
    current().work_slice()


def archive() -> None:
    """Move closed events and contents to the archive, until there is nothing to move; and delete what is done with."""
    process = current()
    end = time.monotonic() + CHORE_SECONDS
    with suppress(QueueLost):  # it waits for a rebuild; others say so
        while time.monotonic() < end and archive_once(process.redis, process.settings, now=clock.now()):
            pass
        prune_archive(process.redis, process.settings, now=clock.now())
        sweep_blobs(process.redis, process.settings, now=clock.now())


def retire() -> None:
    """Forget ended messages that are archived."""
    process = current()
    with suppress(QueueLost):
        retire_once(process.redis, process.settings, now=clock.now())


def suppressions() -> None:
    """Keep a copy of the suppression list beside the archive."""
    process = current()
    keep_copy(process.redis, process.settings, now=clock.now())


def audit() -> None:
    """Account for every recipient accepted here (outbox/audit.py), beside the other chores."""
    current().audits.begin()


def domains() -> None:
    """Look for the DNS records of sending domains (worker/domain_checks.py), beside the other chores."""
    current().domain_checks.begin()
