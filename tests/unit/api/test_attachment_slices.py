"""Base64 is decoded slice by slice, wherever the slices end."""

import re
from binascii import Error as NotBase64
from binascii import a2b_base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api import attachments

WHOLE = re.compile(r"(?:[Aa+]{4})*(?:[Aa+]{2}==|[Aa+]{3}=)?")  # RFC 4648 section 4, in the letters used below


def at_once(text):
    """Stricter than `strict_mode`, which in some versions of Python takes padding that nothing needs."""
    text = "".join(text.split())
    return a2b_base64(text) if WHOLE.fullmatch(text) else None


def in_slices(text):
    try:
        return b"".join(attachments._decoded(text))
    except NotBase64:
        return None


@given(st.text("Aa=+ \n", max_size=24), st.integers(1, 9))
@example("AA==AAAA", 4)
@example("AA==\n \n", 4)
@example("AAAA=", 100)
@example("AAAA====", 100)
def test_slices_change_nothing(text, size):
    """White space anywhere, padding only at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attachments, "_SLICE", size)
        assert in_slices(text) == at_once(text)
