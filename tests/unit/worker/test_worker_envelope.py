import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.envelope import Envelope, dots_stuffed, writable
from worker.errors import Smtputf8Missing, TooLarge

ALL = {"PIPELINING": "", "SIZE": "1000", "8BITMIME": "", "SMTPUTF8": ""}


def envelope(content=b"x\r\n", *, sender="a@b.test", to="c@d.test", smtputf8=False):
    return Envelope(sender, (to,), content, smtputf8)


@pytest.mark.parametrize(
    ("mail", "features", "command"),
    [
        (envelope(), {}, b"MAIL FROM:<a@b.test>\r\n"),
        (envelope(sender=""), {}, b"MAIL FROM:<>\r\n"),  # a DSN
        (envelope(), ALL, b"MAIL FROM:<a@b.test> SIZE=3\r\n"),
        (envelope(b"\xc3\xa4\r\n"), ALL, b"MAIL FROM:<a@b.test> SIZE=4 BODY=8BITMIME\r\n"),
        (envelope(b"\xc3\xa4\r\n"), {}, b"MAIL FROM:<a@b.test>\r\n"),
        (envelope(smtputf8=True), ALL, b"MAIL FROM:<a@b.test> SIZE=3 SMTPUTF8\r\n"),
        (
            envelope(to="\N{LATIN SMALL LETTER A WITH DIAERESIS}@d.test"),
            ALL,
            b"MAIL FROM:<a@b.test> SIZE=3 SMTPUTF8\r\n",
        ),
        (envelope(b"x" * 5000), {"SIZE": "0"}, b"MAIL FROM:<a@b.test> SIZE=5000\r\n"),  # 0: no limit
        (envelope(b"x" * 5000), {"SIZE": ""}, b"MAIL FROM:<a@b.test> SIZE=5000\r\n"),
    ],
)
def test_mail_uses_what_the_server_offers(mail, features, command):
    """The MAIL command carries a parameter only for an extension that was offered and is of use."""
    assert mail.mail(features) == command


def test_what_the_server_cannot_take_is_found_before_a_word_is_said():
    """A message over SIZE, and one that needs SMTPUTF8 where there is none, raise at once."""
    with pytest.raises(TooLarge):
        envelope(b"x" * 1001).mail(ALL)
    with pytest.raises(Smtputf8Missing):
        envelope(smtputf8=True).mail({})


@pytest.mark.parametrize(
    ("content", "data"),
    [
        (b"", b"\r\n"),
        (b"a\r\n", b"a\r\n"),
        (b"a", b"a\r\n"),
        (b".\r\n", b"..\r\n"),
        (b"a\r\n.\r\n.b\r\n..c\r\n", b"a\r\n..\r\n..b\r\n...c\r\n"),
        (b"a.\r\nb.c\r\n", b"a.\r\nb.c\r\n"),
    ],
)
def test_dots_are_stuffed(content, data):
    """A line that begins with a dot gets another (RFC 5321 section 4.5.2)."""
    assert dots_stuffed(content) == data


@given(st.lists(st.binary(max_size=8).map(lambda line: line.replace(b"\r", b".").replace(b"\n", b"."))))
def test_content_survives_stuffing(lines):
    """What a server un-stuffs is what was sent, and the end mark never comes early."""
    content = b"".join(line + b"\r\n" for line in lines)
    sent = (dots_stuffed(content) + b".\r\n").split(b"\r\n")
    end = sent.index(b".")
    assert sent[end:] == [b".", b""]
    received = b"".join(line.removeprefix(b".") + b"\r\n" for line in sent[:end])
    assert received == (content or b"\r\n")


@pytest.mark.parametrize(
    ("path", "can"),
    [
        ("ann@one.test", True),
        ("ann+x@one.test", True),
        ('"ann b"@one.test', True),
        ('"a\\"b"@one.test', True),
        ("ann@[192.0.2.1]", True),
        ("änn@öne.test", True),
        ("ann@one.test> NOTIFY=NEVER", False),
        ("ann@one.test\r\nDATA", False),
        ('"ann\r\n"@one.test', False),
        ("ann b@one.test", False),
        ("<ann@one.test", False),
        ("ann", False),
        ("", False),
    ],
)
def test_an_address_that_could_carry_commands_is_never_written(path, can):
    """Only what ends where it should can stand between < and >."""
    assert writable(path) is can
