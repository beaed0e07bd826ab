"""The mailbox process: SMTP and HTTP on one event loop, one file below them."""

import asyncio

from nightmail.mailbox.session import Manners, Session
from nightmail.mailbox.store import Store
from nightmail.mailbox.view import create_view
from nightmail.serving import serve_http, stop_signal
from runtime.settings import Settings


async def run(settings: Settings) -> None:
    """Serve until told to stop."""
    stopping = stop_signal()
    store = Store(settings.data_dir / "mailbox.sqlite")
    listener = await listen(settings, store)
    try:
        await serve_http(create_view(store), host=settings.host, port=settings.mailbox_port, stopping=stopping)
    finally:
        listener.close()
        store.close()


async def listen(settings: Settings, store: Store) -> asyncio.Server:
    """Open the SMTP port."""
    manners = Manners(
        hostname=settings.smtp_hostname,
        max_bytes=settings.max_message_bytes + 1024 * 1024,  # what delivery adds to the largest message we accept
        misbehaves=settings.mailbox_misbehaves,
    )
    factory = lambda: Session(store, manners)  # noqa: E731 - a protocol factory is a call without arguments
    return await asyncio.get_running_loop().create_server(
        factory, settings.host, settings.mailbox_smtp_port, backlog=1024
    )
