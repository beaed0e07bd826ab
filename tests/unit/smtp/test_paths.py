import pytest

from smtp import paths
from smtp.paths import MailArgument, a_label, domain_of, parse_mail, parse_rcpt
from smtp.replies import Refused


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("FROM:<a@b.example>", MailArgument("a@b.example", 0, smtputf8=False)),
        ("from: <a@b.example>", MailArgument("a@b.example", 0, smtputf8=False)),  # the space many clients send
        ("FROM:<>", MailArgument("", 0, smtputf8=False)),  # the null reverse-path is an empty string
        ("FROM:<> BODY=8BITMIME SIZE=12", MailArgument("", 12, smtputf8=False)),
        ("FROM:<a@b.example> size=7 body=7bit", MailArgument("a@b.example", 7, smtputf8=False)),
        ("FROM:<a@b.example> AUTH=<>", MailArgument("a@b.example", 0, smtputf8=False)),  # RFC 4954 section 5
        ("FROM:<@r.example,@s.example:a@b.example>", MailArgument("a@b.example", 0, smtputf8=False)),  # source route
        ('FROM:<"a b\\" c>"@b.example>', MailArgument('"a b\\" c>"@b.example', 0, smtputf8=False)),
        ("FROM:<grün@bücher.example> SMTPUTF8", MailArgument("grün@bücher.example", 0, smtputf8=True)),
        ("FROM:<bounce+x=y.z@b-c.example>", MailArgument("bounce+x=y.z@b-c.example", 0, smtputf8=False)),
    ],
)
def test_reads_what_mail_may_say(argument: str, expected: MailArgument):
    """MAIL's argument gives path, size and the wish for UTF-8."""
    assert parse_mail(argument) == expected


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("", "501 5.5.4"),
        ("TO:<a@b.example>", "501 5.5.4"),
        ("FROM:a@b.example", "553 5.1.3"),  # no brackets
        ("FROM:<a@b.example", "553 5.1.3"),
        ("FROM:<a>", "553 5.1.3"),
        ("FROM:<a@>", "553 5.1.3"),
        ("FROM:<@b.example>", "553 5.1.3"),
        ("FROM:<a..b@c.example>", "553 5.1.3"),
        ("FROM:<a b@c.example>", "553 5.1.3"),
        ("FROM:<a@b@c.example>", "553 5.1.3"),
        ("FROM:<a\r\nb@c.example>", "553 5.1.3"),
        ("FROM:<a\0@c.example>", "553 5.1.3"),
        ("FROM:<a@[127.0.0.1]>", "553 5.1.3"),  # address literals have no lane
        ("FROM:<a@b..example>", "553 5.1.2"),
        ("FROM:<a@-b.example>", "553 5.1.2"),
        ("FROM:<a@b.example.>", "553 5.1.2"),
        (f"FROM:<a@{'x' * 64}.example>", "553 5.1.2"),
        (f"FROM:<a@{'ü' * 64}.example> SMTPUTF8", "553 5.1.2"),
        (f"FROM:<{'a' * 65}@b.example>", "553 5.1.3"),
        (f"FROM:<a@{'x.' * 124}example>", "553 5.1.2"),
        ("FROM:<grün@b.example>", "553 5.6.7"),
        ("FROM:<a@b.example>SIZE=1", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=x", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=", "501 5.5.4"),
        ("FROM:<a@b.example> SIZE=1 SIZE=2", "501 5.5.4"),
        (f"FROM:<a@b.example> SIZE={'9' * 21}", "501 5.5.4"),
        ("FROM:<a@b.example> SMTPUTF8=yes", "501 5.5.4"),
        ("FROM:<a@b.example> BODY=BINARYMIME", "501 5.5.4"),
        ("FROM:<a@b.example> RET=FULL", "555 5.5.4"),
        ("FROM:<a@b.example> =x", "501 5.5.4"),
    ],
)
def test_refuses_what_mail_may_not_say(argument: str, reply: str):
    """Each malformed argument of MAIL has a permanent reply of its own kind."""
    with pytest.raises(Refused) as caught:
        parse_mail(argument)
    assert str(caught.value).startswith(reply)


@pytest.mark.parametrize(
    ("argument", "reply"),
    [
        ("TO:<>", "553 5.1.3"),
        ("TO:<postmaster>", "553 5.1.3"),  # no mailboxes here
        ("TO:<a@b.example> NOTIFY=NEVER", "555 5.5.4"),
        ("TO:<ü@b.example>", "553 5.6.7"),
        ("FROM:<a@b.example>", "501 5.5.4"),
    ],
)
def test_refuses_what_rcpt_may_not_say(argument: str, reply: str):
    """Each malformed argument of RCPT has a permanent reply of its own kind."""
    with pytest.raises(Refused) as caught:
        parse_rcpt(argument, smtputf8=False)
    assert str(caught.value).startswith(reply)


def test_reads_what_rcpt_may_say():
    """RCPT gives the address as the client wrote it, UTF-8 if that was asked for."""
    assert parse_rcpt("TO:<Bob@Dest.example>", smtputf8=False) == "Bob@Dest.example"
    assert parse_rcpt("TO: <ü@bücher.example>", smtputf8=True) == "ü@bücher.example"


def test_domains_are_compared_as_a_labels():
    """A domain has one form: lower case, ASCII."""
    assert a_label("Bücher.Example") == "xn--bcher-kva.example"
    assert domain_of("a@BÜCHER.example") == "xn--bcher-kva.example"
    with pytest.raises(ValueError):
        domain_of("Ann <a@b.example>")


@pytest.mark.parametrize(
    "mailbox", ["a" * 65 + "@b.example", "ü" * 33 + "@b.example", "abc@" + "x." * 123 + "ample", "a" * 100_000 + "@b.c"]
)
def test_addresses_are_bounded_before_they_are_kept(mailbox: str):
    """An address of a header is no longer than a path may be (RFC 5321 section 4.5.3.1), and no cache holds more."""
    kept = paths._domain_of.cache_info().currsize
    with pytest.raises(ValueError):
        domain_of(mailbox)
    assert paths._domain_of.cache_info().currsize == kept
    assert domain_of("a" * 64 + "@b.example") == "b.example"
