"""Signatures hold before an independent verifier, and break when anything that is shown is changed."""

import re
from datetime import UTC, datetime

import dkim
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from outbox.dkim_key import make_keys, place_of
from runtime.sealing import Seal
from worker.dkim import SigningKey, canonical_body, canonical_field, large_signatures, signatures

NOW = datetime(2026, 11, 21, 20, tzinfo=UTC)
SEAL = Seal(b"k" * 32)
MADE = make_keys("ours.test", SEAL, now=NOW)
RECORDS = {f"{key.selector}._domainkey.ours.test.": key.record for key in MADE}
KEYS = [
    SigningKey.load("ours.test", key.selector, SEAL.open(key.sealed, place=place_of("ours.test", key.selector)))
    for key in MADE
]
HEAD = (
    b"From: Ann <ann@ours.test>\r\nTo: bob@one.test\r\nSubject: A long\r\n\tfolded   subject \r\nDate: x\r\n"
    b"Message-ID: <a@b>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
)


def verifies(signed: bytes, *, of: int = 2) -> list[bool]:
    """What dkimpy says of each signature."""
    verifier = dkim.DKIM(signed, timeout=1)

    def text_record(name, timeout=5):
        return RECORDS.get(name.decode() if isinstance(name, bytes) else name, "").encode()

    found = []
    for index in range(of):
        try:
            found.append(verifier.verify(idx=index, dnsfunc=text_record))
        except dkim.DKIMException:
            found.append(False)
    return found


def signed(content: bytes) -> bytes:
    return signatures(content, KEYS, now=NOW) + content


@pytest.mark.parametrize(
    "content",
    [
        HEAD + b"\r\nHi\r\n",
        HEAD + b"\r\n",  # no body
        HEAD,  # not even the empty line
        HEAD + b"\r\nHi\r\n\r\n\r\n",  # empty lines at the end do not count (RFC 6376 section 3.4.4)
        HEAD + b"\r\n\r\n\r\nHi  there \t \r\n \r\n",
        HEAD + b"\r\n.\r\n..dots\r\n.\r\n",
        HEAD + b"\r\n" + b"x" * 998 + b"\r\n" + b"y " * 5000 + b"\r\n",
        HEAD + b"\r\n" + "Grüße aus Köln\r\n".encode(),
        HEAD.replace(b"Ann", "Änn".encode()) + b"\r\nSMTPUTF8\r\n",
        HEAD.replace(b"Subject:", b"SUBJECT:") + b"\r\ncapitals\r\n",
        HEAD + b"List-Unsubscribe: <mailto:a@b>\r\nReferences: <1@a>\r\n <2@a>\r\n\r\nHi\r\n",
        HEAD + b"Cc: a@b\r\nCc: c@d\r\n\r\ntwo of a kind\r\n",
    ],
)  # fmt: skip
def test_both_signatures_verify(content):
    """Whatever the form of header and body, RSA and Ed25519 verify."""
    assert verifies(signed(content)) == [True, True]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=40), max_size=8))
def test_any_body_verifies(lines):
    """Blanks, tabs and empty lines wherever they are."""
    assert verifies(signed(HEAD + b"\r\n" + "".join(f"{line}\r\n" for line in lines).encode())) == [True, True]


@pytest.mark.parametrize(
    "change",
    [
        (b"Hello", b"Hullo"),
        (b"ann@ours.test", b"eve@ours.test"),
        (b"Subject: A", b"Subject: B"),
        (b"From: Ann", b"From: Eve <eve@evil.test>\r\nFrom: Ann"),  # a second field before ours
        (b"From: Ann", b"Reply-To: eve@evil.test\r\nFrom: Ann"),  # one that was not there
        (b"From: Ann", b"Cc: eve@evil.test\r\nFrom: Ann"),
        (b"Subject: A", b"Subject: B\r\nSubject: A"),
        (b"Content-Type: text/plain", b"Content-Type: text/html"),
    ],
)
def test_changes_break_both(change):
    """Nothing that a reader is shown can be changed or added."""
    octets = signed(HEAD + b"\r\nHello\r\n")
    assert verifies(octets.replace(*change)) == [False, False]


def test_relays_may_add_their_own():
    """Received fields, folded anew and blanks at line ends do not break it: relaxed on both sides."""
    octets = signed(HEAD + b"\r\nHello there\r\n")
    relayed = b"Received: from here\r\n" + octets.replace(b"\tfolded   subject", b"    folded subject")
    assert verifies(relayed.replace(b"Hello there", b"Hello \t there ")) == [True, True]


def test_the_fields_are_well_formed():
    """Short lines, our selector and domain, Bcc in no list, and no length limit that would let text be added."""
    field = signatures(HEAD + b"\r\nHi\r\n", KEYS, now=NOW).decode()
    assert max(map(len, field.split("\r\n"))) < 78 + 8
    flat = re.sub(r"\s", "", field)
    assert re.findall(r"a=([a-z0-9-]+)", flat) == ["rsa-sha256", "ed25519-sha256"]
    assert "bcc" not in field.lower()
    assert "l=" not in re.findall(r"[a-z]+=", flat)
    assert re.findall(r"t=(\d+)", flat) == [str(int(NOW.timestamp()))] * 2


@pytest.mark.parametrize(
    ("body", "canonical"),
    [  # RFC 6376 section 3.4.5
        (b" C \r\nD \t E\r\n\r\n\r\n", b" C\r\nD E\r\n"),
        (b"", b""),
        (b"\r\n\r\n", b""),
        (b" \r\n", b""),
    ],
)
def test_bodies_in_relaxed_form(body, canonical):
    """The example of the RFC, and its edges."""
    assert canonical_body(body) == canonical


def test_fields_in_relaxed_form():
    """The example of the RFC."""
    assert canonical_field(b"A", b" X") + canonical_field(b"B", b"Y\t\r\n\tZ  ") == b"a:X\r\nb:Y Z\r\n"


@given(st.text("\r\na \t", max_size=60), st.lists(st.integers(1, 9), min_size=1))
def test_a_large_content_is_signed_as_a_small_one(text: str, cuts: list[int]):
    """However it is cut into pieces, its signature is that of the whole."""
    content = b"From: a@one.test\r\n\r\n" + re.sub(r"\r(?!\n)|(?<!\r)\n", "", text).encode()
    pieces, at = [], 0
    while at < len(content):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(content[at : at + size])
        at += size
    keys = [SigningKey("one.test", "s", Ed25519PrivateKey.from_private_bytes(b"k" * 32))]
    now = datetime(2026, 3, 1, tzinfo=UTC)
    assert large_signatures(iter(pieces), keys, now=now) == signatures(content, keys, now=now)
