"""A large content is stuffed block by block, behind its signatures, exactly as a small one is at once."""

import asyncio
import io

from hypothesis import given
from hypothesis import strategies as st

from outbox import blobs
from outbox.blobs import OpenBlob
from worker.envelope import blocks_stuffed, dots_stuffed

FRONT = b"Signature: x\r\n"


@given(st.text("\r\n.x", min_size=1, max_size=40), st.integers(1, 7))
def test_blocks_say_the_same(text, block):
    """Wherever the blocks are cut."""
    content = text.encode()

    async def sent():
        opened = OpenBlob(io.BytesIO(content), len(content), ascii_only=True).behind(FRONT)
        assert len(opened) == len(FRONT + content)
        return b"".join([piece async for piece in blocks_stuffed(opened)])

    before, blobs.BLOCK = blobs.BLOCK, block
    try:
        assert asyncio.run(sent()) == dots_stuffed(FRONT + content)
    finally:
        blobs.BLOCK = before
