"""Messages as the queue knows them, for those who can go on without it."""

from outbox.queue import Outbox
from outbox.view import MessageView
from runtime.connections import StoreError


async def find_queued(outbox: Outbox, email_id: str, *, content: bool) -> MessageView | None:
    """The message; None when the queue does not know it, or cannot be asked: the history may know it."""
    try:
        return await outbox.find(email_id, content=content)
    except StoreError:
        return None
