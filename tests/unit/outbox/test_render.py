"""Rendering: what a recipient's own parser sees is what the draft said, whatever the draft's texts hold."""

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from outbox import render as rendering
from outbox.content import parts
from outbox.header_text import Unrenderable
from outbox.render import Attachment, Draft, Mailbox, render

NOW = datetime(2026, 11, 21, 20, 0, tzinfo=UTC)
MESSAGE_ID = "<0198c0de-0000-7000-8000-000000000000@mail.example.org>"
TO = (Mailbox("", "you@example.org"),)

# Texts that have broken mailers before, mixed with anything else.
nasty = st.sampled_from(
    [
        "\r\nBcc: x@y.z",
        "\nBcc: x@y.z",
        "\r",
        "=?utf-8?q?a=0D=0ABcc:_x@y.z?=",
        "=?",
        "?=",
        ": ",
        " ",
        "\x00",
        "\u2028",
        '"',
    ]
)
texts = st.lists(st.one_of(nasty, st.text(max_size=30)), max_size=6).map("".join)
names = st.one_of(st.sampled_from(["X-A", "X-B: v\r\nBcc", "X C", "", "Ü"]), st.text(max_size=12))

# The standard library's reader takes angle brackets round a name for quotes, and leaves them out.
names_of_files = (
    st.text(st.characters(exclude_categories=["C"]), max_size=40)
    .map(str.strip)
    .filter(lambda name: name and not (name.startswith("<") and name.endswith(">")))
)


def draft(**fields) -> Draft:
    return Draft(**{"sender": Mailbox("Acme", "on@example.org"), "to": TO, "subject": "Hi", "text": "Hello", **fields})


def raw(**fields) -> bytes:
    return render(draft(**fields), message_id=MESSAGE_ID, date=NOW).content


def parsed(**fields) -> EmailMessage:
    return message_from_bytes(raw(**fields), policy=policy.default)


def shown(value: str) -> str:
    return str(make_header(decode_header(re.sub(r"\r?\n", "", value))))


@given(texts, texts, names, texts)
def test_no_text_makes_another_header(subject, name, header, value):
    """Whatever the subject, the display names and a custom header hold, the header fields are those meant, or none."""
    try:
        octets = raw(
            subject=subject,
            sender=Mailbox(name, "on@example.org"),
            to=(Mailbox(name, "you@example.org"), Mailbox("", "she@example.org")),
            headers=((header, value.strip(" ")),),
        )
    except Unrenderable:
        return
    for reading in (policy.compat32, policy.SMTP):
        message = message_from_bytes(octets, policy=reading)
        assert message.keys() == [
            "From", "To", "Subject", "Message-ID", "Date", header,
            "MIME-Version", "Content-Type", "Content-Transfer-Encoding",
        ]  # fmt: skip
        assert message.get_payload() == "Hello"
    assert octets.isascii()
    assert all(len(line) <= 998 for line in octets.split(b"\r\n"))


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=200).map(str.strip))
def test_the_subject_is_shown_as_written(subject):
    """A subject without control characters is read back exactly, even if it looks like an encoded word."""
    message = message_from_bytes(raw(subject=subject), policy=policy.compat32)
    assert shown(message["Subject"]) == subject


def test_plain_headers_stay_as_they_are():
    """Only a whole encoded word is encoded anew; and in a header of addresses or ids not even that."""
    word = "=?utf-8?q?a?="
    headers = {
        "X-Token": "dGVzdA==?t=1",
        "List-Unsubscribe": "<https://x.test/u/dGVzdA==?t=1>",
        "list-id": f"{word} <a.x.test>",
        "In-Reply-To": f"<{word}@x.test>",
        "References": f"<{word}@x.test>",
    }
    message = message_from_bytes(raw(subject="1 =? 2", headers=tuple(headers.items())), policy=policy.compat32)
    assert {name: message[name] for name in headers} == headers
    assert message["Subject"] == "1 =? 2"
    for text in (word, "=?utf-8?q?a b?="):
        encoded = message_from_bytes(raw(headers=(("X-A", text),)), policy=policy.compat32)["X-A"]
        assert encoded != text
        assert shown(encoded) == text


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" "), max_size=120).map(str.strip))
def test_the_display_name_is_shown_as_written(name):
    """A display name is read back exactly, and the address beside it is untouched."""
    message = message_from_bytes(raw(sender=Mailbox(name, "on@example.org")), policy=policy.compat32)
    found, address = parseaddr(re.sub(r"\r?\n", "", message["From"]))
    assert address == "on@example.org"
    assert shown(found) == name


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_bodies_survive(html, text):
    """HTML and text come back as they were, newlines apart, through 7-bit octets; no HTML as none."""
    octets = raw(html=html, text=text)
    read = parts(octets)
    assert octets.isascii()
    assert b"\n" not in octets.replace(b"\r\n", b"")
    assert b"\r" not in octets.replace(b"\r\n", b"")
    assert read.html == (html.replace("\r\n", "\n").replace("\r", "\n") or None)
    assert read.text == text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.binary(max_size=500), names_of_files)
def test_attachments_survive(content, filename):
    """A file keeps its octets and its name."""
    files = list(parsed(attachments=(Attachment(content, filename),)).iter_attachments())
    assert [f.get_content() for f in files] == [content]
    assert files[0].get_filename() == filename


def test_boundaries_cannot_be_forged():
    """A body that holds our boundary is encoded, so it stays inside its part."""
    boundary = "--=_0198c0de-0000-7000-8000-000000000000a--"
    assert parts(raw(html="<p>", text=f"{boundary}\n")).text == f"{boundary}\n"
    assert [p.get_content_type() for p in parsed(html="<p>", text=boundary).walk()][1:] == ["text/plain", "text/html"]


def test_the_structure_holds_only_what_is_needed():
    """Text alone is one part; HTML has its text beside it; inline files go with the HTML, others beside all."""
    inline = Attachment(b"i", "logo.png", "image/png", content_id="logo")
    other = Attachment(b"o", "terms.pdf", "application/pdf")

    def kinds(**fields):
        return [part.get_content_type() for part in parsed(**fields).walk()]

    assert kinds() == ["text/plain"]
    assert kinds(text="", html="<p>x") == ["text/html"]
    assert kinds(text="x", html="") == ["text/plain"]
    assert kinds(text=None, html="<p>x") == ["multipart/alternative", "text/plain", "text/html"]
    assert kinds(text="x", attachments=(inline,)) == ["multipart/mixed", "text/plain", "image/png"]
    assert kinds(html="<img src=cid:logo>", attachments=(inline, other)) == [
        "multipart/mixed", "multipart/alternative", "text/plain", "multipart/related", "text/html",
        "image/png", "application/pdf",
    ]  # fmt: skip


def test_text_is_made_from_html_and_said_to_be():
    """Without a text, one is made from the HTML, and the caller is told."""
    made = render(draft(html="<p>See <a href='https://x.org/y'>this</a>", text=None), message_id=MESSAGE_ID, date=NOW)
    assert made.text_derived
    assert parts(made.content).text == "See this (https://x.org/y)"
    assert not render(draft(), message_id=MESSAGE_ID, date=NOW).text_derived


def test_a_utf8_local_part_needs_smtputf8():
    """A local part outside ASCII is written as it is, and the message is marked for RFC 6531."""
    made = render(draft(to=(Mailbox("Jörg", "jörg@example.org"),)), message_id=MESSAGE_ID, date=NOW)
    assert made.smtputf8
    assert b"<j\xc3\xb6rg@example.org>" in made.content


def test_a_word_too_long_for_a_line_is_refused():
    """998 octets is the most a line may have, so a longer word cannot be written."""
    with pytest.raises(Unrenderable):
        raw(headers=(("X-Long", "x" * 1000),))


def written(name, value):
    try:
        return rendering._header(name, value)
    except Unrenderable as refusal:
        return str(refusal)


@given(names, st.one_of(texts, st.text(st.characters(codec="ascii"), max_size=90)))
def test_the_short_way_to_a_header_gives_what_the_long_one_gives(name, value):
    """One line of plain text is not folded and read again, and nothing else goes that way."""
    short = written(name, value)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rendering, "is_one_line", lambda *_: False)
        assert short == written(name, value)


def test_long_headers_are_folded():
    """Fifty recipients stay within 78 characters a line."""
    octets = raw(to=tuple(Mailbox(f"Person Number {i}", f"person{i}@example.org") for i in range(50)))
    head = octets.partition(b"\r\n\r\n")[0]
    assert max(map(len, head.split(b"\r\n"))) <= 78


@pytest.mark.parametrize("part", [{"filename": 'a"\r\nX: y'}, {"content_type": "a/b\r\nX: y"}, {"content_id": "a\nb"}])
def test_part_headers_are_guarded(part):
    """Headers of a part cannot be broken either."""
    with pytest.raises(Unrenderable):
        raw(attachments=(Attachment(b"x", **part),))


@given(st.lists(st.sampled_from([0, 1, 500, 997, 998, 999, 1500]), max_size=6))
def test_text_goes_as_it_is_while_its_lines_fit(lengths):
    """A longer line than 998 octets, wherever it stands, is not sent as it is."""
    encoding = parsed(text="\n".join("x" * length for length in lengths))["Content-Transfer-Encoding"]
    assert (encoding == "7bit") == all(length <= 998 for length in lengths)
