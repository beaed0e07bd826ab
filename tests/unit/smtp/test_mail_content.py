from contextlib import suppress
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox.message import Message, Recipient
from smtp.content import MAX_FIELDS, MAX_HEADER, Envelope, compose, fingerprint, read
from smtp.replies import Refused

NOW = datetime(2026, 11, 21, 20, 17, tzinfo=UTC)
ENVELOPE = Envelope("bounce@sender.example", ("bob@dest.example", "carol@hidden.example"))
WHOLE = b"Message-ID: <1@x>\r\nDate: Sat, 21 Nov 2026 20:17:00 +0000\r\n"


def made(content: bytes, envelope: Envelope = ENVELOPE) -> tuple[Message, bytes]:
    return compose(read(content), envelope, message_id="id-1", key_id="key-1", now=NOW, hostname="mail.example")


def test_a_complete_message_stays_as_it_came():
    """What has From, Date and Message-ID, and no Bcc, is the very same object of octets."""
    content = WHOLE + b"X-Odd :  kept\r\nFROM:  Ann\r\n\t<ann@sender.example>\r\n\r\nbody\r\n"
    message, octets = made(content)
    assert octets is content
    assert message.message_id_header == "<1@x>"
    assert message.size == len(content)


def test_the_message_says_what_the_header_and_envelope_say():
    """Display fields come from the header, the way of the mail from the envelope."""
    content = (
        b"From: =?utf-8?q?J=C3=B6rg?= <j@sender.example>\r\nTo: a@b.example,\r\n C <c@d.example>\r\nTo: e@f.example\r\n"
        b'Cc: "Lee, D" <d@e.example>\r\nReply-To: r@s.example\r\nSubject: =?utf-8?b?R3LDvMOfZQ==?=\r\n\r\nx\r\n'
    )
    message, octets = made(content)
    assert message.sender == "Jörg <j@sender.example>"
    assert message.to == ("a@b.example", "C <c@d.example>", "e@f.example")
    assert message.cc == ('"Lee, D" <d@e.example>',)
    assert message.reply_to == ("r@s.example",)
    assert message.subject == "Grüße"
    assert message.via == "smtp"
    assert message.reverse_path == "bounce@sender.example"
    assert message.recipients == tuple(Recipient(a, "envelope") for a in ENVELOPE.recipients)
    assert message.bcc == ()
    assert message.key_id == "key-1"
    assert message.created_at == NOW
    assert message.size == len(octets)


def test_missing_date_and_message_id_are_put_in_front():
    """RFC 6409 section 8: both are added, above all that came."""
    content = b"From: a@b.example\r\n\r\nx\r\n"
    message, octets = made(content)
    assert octets.endswith(content)
    parsed = message_from_bytes(octets, policy=policy.SMTP)
    assert parsed["Message-ID"] == message.message_id_header == "<id-1@mail.example>"
    assert parsedate_to_datetime(parsed["Date"]) == NOW
    assert "Received" not in parsed


@pytest.mark.parametrize(
    "bcc",
    [
        b"Bcc: x@hidden.example\r\n",
        b"bCC : x@hidden.example,\r\n\ty@hidden.example\r\n z@hidden.example\r\n",
        b"BCC:\r\n x@hidden.example\r\n",
        b"Bcc:\r\n \r\n x@hidden.example\r\n",  # a continuation of white space alone
        b"Resent-Bcc: x@hidden.example\r\n",
        b"Bcc: x@hidden.example\r\nX-Between: 1\r\nBcc: y@hidden.example\r\n",
    ],
)
@pytest.mark.parametrize("first", [True, False])
def test_bcc_leaves_with_all_its_lines(bcc: bytes, *, first: bool):
    """No form of a Bcc header reaches a recipient; the rest is untouched."""
    rest = WHOLE + b"From: a@b.example\r\n"
    body = b"\r\nBcc: this line is text\r\n"
    _, octets = made((bcc + rest if first else rest + bcc) + body)
    assert b"hidden" not in octets
    assert octets.replace(b"X-Between: 1\r\n", b"") == rest + body


def test_the_idempotency_key_is_read_and_removed():
    """Resend-Idempotency-Key is for us, not for the recipients."""
    content = WHOLE + b"Resend-Idempotency-Key: order-17\r\nFrom: a@b.example\r\n\r\nx\r\n"
    assert read(content).idempotency_key == "order-17"
    _, octets = made(content)
    assert octets == WHOLE + b"From: a@b.example\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    ("header", "reply"),
    [
        (b"Subject: no sender\r\n", "550 5.6.0 No From"),
        (b"", "550 5.6.0 No From"),
        (b"From: nobody\r\n", "550 5.6.0 From"),
        (b"From:\r\n", "550 5.6.0 From"),
        (b"From: a@b.example\r\nFrom: x@evil.example\r\n", "550 5.6.0 More than one From"),
        (b"From: <a@b.example> <x@evil.example>\r\n", "550 5.6.0 From"),
        (b"From: " + b"a@b.example, " * 11 + b"\r\n", "550 5.6.0 From"),
        (b"From a@b.example Sat Nov 21\r\nFrom: a@b.example\r\n", "550 5.6.0 Malformed"),
        (b" From: a@b.example\r\n", "550 5.6.0 Malformed"),
        (b"From: a@b.example\r\nno colon\r\nBcc: x@y.example\r\n", "550 5.6.0 Malformed"),
        (b"From: a@b.example\r\nB\xc3\xbcc: x\r\n", "550 5.6.0 Malformed"),
        (b"From: a@b.example\r\nResend-Idempotency-Key:\r\n", "550 5.6.0 Resend"),
        (b"From: a@b.example\r\nResend-Idempotency-Key: " + b"k" * 257 + b"\r\n", "550 5.6.0 Resend"),
        (b"From: a@b.example\r\n" + b"Resend-Idempotency-Key: k\r\n" * 2, "550 5.6.0 More than one Resend"),
        (b"From: a@b.example\r\n" + b"X: y\r\n" * MAX_FIELDS, "554 5.6.0 More than"),
        (b"From: a@b.example\r\nX: " + b"y" * MAX_HEADER + b"\r\n", "554 5.6.0 Header larger"),
    ],
)
def test_what_is_no_message_is_refused_for_good(header: bytes, reply: str):
    """A header we cannot be sure of is refused, since other readers would see another message."""
    with pytest.raises(Refused) as caught:
        read(header + b"\r\nbody\r\n")
    assert str(caught.value).startswith(reply)


def test_a_header_without_a_body_is_a_message():
    """RFC 5322 section 2.1: the body is optional."""
    content = WHOLE + b"From: a@b.example\r\n"
    assert made(content)[1] == content


def test_all_senders_are_known():
    """Each mailbox of From has its domain checked, as an A-label, once."""
    draft = read("From: a@B.example, Ü <b@bücher.example>, c@b.example\r\n\r\n".encode())
    assert draft.from_domains == ("b.example", "xn--bcher-kva.example")


def test_the_fingerprint_outlives_a_retry():
    """Date and Message-ID may change when a client sends again; all else may not."""

    def print_of(content: bytes, envelope: Envelope = ENVELOPE) -> str:
        return fingerprint(envelope, read(content))

    one = print_of(b"From: a@b.example\r\nDate: 1\r\nMessage-ID: <1>\r\nResend-Idempotency-Key: k\r\n\r\nx\r\n")
    assert one == print_of(b"From: a@b.example\r\nDate: 2\r\nMessage-ID: <2>\r\nResend-Idempotency-Key: k\r\n\r\nx\r\n")
    assert one != print_of(b"From: a@b.example\r\nDate: 1\r\nMessage-ID: <1>\r\n\r\ny\r\n")
    other = Envelope(ENVELOPE.reverse_path, ("bob@dest.example",))
    assert one != print_of(b"From: a@b.example\r\nDate: 1\r\nMessage-ID: <1>\r\n\r\nx\r\n", other)


@pytest.mark.parametrize(
    ("asked", "recipient", "subject", "needed"),
    [
        (True, "ü@dest.example", b"x", True),
        (True, "u@dest.example", "ü".encode(), True),
        (True, "u@dest.example", b"x", False),  # asked for in vain: any next hop will do
        (False, "u@dest.example", "ü".encode(), False),  # 8-bit header of an old client: goes as it came
    ],
)
def test_smtputf8_is_asked_of_the_next_hop_only_when_needed(
    *, asked: bool, recipient: str, subject: bytes, needed: bool
):
    """The flag needs both the client's word and something that is not ASCII."""
    envelope = Envelope("a@b.example", (recipient,), asked)
    message, _ = made(b"From: a@b.example\r\nSubject: " + subject + b"\r\n\r\nx\r\n", envelope)
    assert message.smtputf8 is needed


_NAMES = st.sampled_from([b"To", b"Subject", b"Bcc", b"bcc ", b"X-Bcc", b"Received", b"DKIM-Signature", b"Date"])
_TEXT = st.binary(max_size=40).map(lambda raw: raw.replace(b"\r", b"").replace(b"\n", b""))
_FIELDS = st.lists(st.tuples(_NAMES, st.lists(_TEXT, min_size=1, max_size=3)), max_size=8)


@given(fields=_FIELDS, body=st.binary(max_size=200))
def test_only_bcc_goes_and_only_two_fields_come(fields: list[tuple[bytes, list[bytes]]], body: bytes):
    """Whatever the header and body: less Bcc, and less what was put in front, every octet is the client's."""
    sender = b"From: a@b.example\r\n"
    lines = [(name, name + b":" + b"\r\n ".join(parts) + b"\r\n") for name, parts in fields]
    content = sender + b"".join(line for _, line in lines) + b"\r\n" + body
    _, octets = made(content)
    kept = sender + b"".join(line for name, line in lines if name.strip().lower() != b"bcc") + b"\r\n" + body
    assert octets.endswith(kept)
    added = octets.removesuffix(kept)
    has_date = any(name == b"Date" for name, _ in fields)
    assert [line.partition(b":")[0] for line in added.splitlines()] == [b"Message-ID"] + [b"Date"] * (not has_date)


@given(st.binary(max_size=300))
def test_no_octets_are_too_odd_to_be_read(content: bytes):
    """Any octets are a message or are refused; nothing else is raised."""
    with suppress(Refused):
        made(b"From: a@b.example\r\n" + content)
