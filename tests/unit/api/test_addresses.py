"""Addresses: the common ones take a short cut that agrees with the library, and nothing written can break a header."""

import pytest
from email_validator import validate_email
from hypothesis import assume, given
from hypothesis import strategies as st

from api.addresses import _COMMON, parse, parse_all
from api.errors import ApiError
from outbox.header_text import Unrenderable
from outbox.render import Mailbox, mailboxes_of


@pytest.mark.parametrize(
    ("written", "name", "address", "domain"),
    [
        ("a@b.org", "", "a@b.org", "b.org"),
        ("  a@b.org ", "", "a@b.org", "b.org"),
        ("Ann <a@b.org>", "Ann", "a@b.org", "b.org"),
        ("<a@b.org>", "", "a@b.org", "b.org"),
        ('"Last, First" <a@b.org>', "Last, First", "a@b.org", "b.org"),
        (r'"A \"B\" C" <a@b.org>', 'A "B" C', "a@b.org", "b.org"),
        ("Ann <Ann.Lee+tag@B.ORG>", "Ann", "Ann.Lee+tag@b.org", "b.org"),
        ("Jörg <jo@exämple.org>", "Jörg", "jo@xn--exmple-cua.org", "xn--exmple-cua.org"),
        ("jörg@example.org", "", "jörg@example.org", "example.org"),
        ("o'neil@sub.b-c.org", "", "o'neil@sub.b-c.org", "sub.b-c.org"),
        ("a@mail.test", "", "a@mail.test", "mail.test"),
    ],
)
def test_what_is_taken(written, name, address, domain):
    """Both forms, quoted names, tags, internationalised domains, and domains for special use."""
    found = parse(written, field="to")
    assert (found.written, found.mailbox, found.domain) == (written, Mailbox(name, address), domain)


@pytest.mark.parametrize(
    "written",
    [
        "", " ", "a", "a@", "@b.org", "a@b", "a@b..org", "a b@c.org", "a@b.org, c@d.org", "Ann a@b.org", "a@b.org>",
        "Ann <a@b.org", "Ann <>", "<a@b.org> Ann", "a@-b.org", "a@b-.org", ".a@b.org", "a.@b.org", "a@[127.0.0.1]",
        "a@b.org\r\nBcc: x@y.z", "A\nB <a@b.org>", "\x00a@b.org", "x" * 65 + "@b.org", "a@" + "b" * 64 + ".org",
        "a@" + "b." * 130 + "org", "N" * 2000 + " <a@b.org>", "a@xn--\u00fc.org", "\ud800 <a@b.org>",
    ],
)  # fmt: skip
def test_what_is_refused(written):
    """Each is refused in Resend's words, which callers match on."""
    with pytest.raises(ApiError) as refusal:
        parse(written, field="to")
    assert (refusal.value.status, refusal.value.name) == (422, "validation_error")
    assert refusal.value.message == (
        "Invalid `to` field. The email address needs to follow the `email@example.com` or "
        "`Name <email@example.com>` format."
    )


atoms = st.text("aZ09_+-", min_size=1, max_size=40)
labels = st.lists(st.text("aZ09", min_size=1, max_size=20), min_size=1, max_size=4).map("-".join)


@given(st.lists(atoms, min_size=1, max_size=3), st.lists(labels, min_size=1, max_size=5))
def test_the_short_cut_agrees_with_the_library(local, domain):
    """What the short cut takes, the library takes too, and writes it alike."""
    address = f"{'.'.join(local)}@{'.'.join(domain)}.org"
    assume(_COMMON.fullmatch(address))
    found = validate_email(address, check_deliverability=False, globally_deliverable=False, strict=True)
    assert parse(address, field="to").mailbox.address == f"{found.local_part}@{found.ascii_domain}"


@given(
    st.one_of(
        st.text(max_size=80),
        st.lists(
            st.sampled_from(["a@b.org", "<", ">", '"', "\\", "\r\n", ",", "Bcc: ", "=?utf-8?q?=0A?=", "(", " "])
        ).map("".join),
    )
)
def test_any_text_is_an_address_or_an_error(written):
    """Whatever is written gives an error or a mailbox that stands on one line as one address."""
    try:
        found = parse(written, field="to")
    except ApiError:
        return
    line = mailboxes_of([found.mailbox])
    assert "\r" not in line
    assert "\n" not in line
    assert line.endswith(found.mailbox.address + (">" if found.mailbox.name else ""))
    assert not set(found.mailbox.address) & set(' <>,"()\\')


def test_many_are_counted_before_they_are_parsed():
    """The number is checked first, since parsing is what costs."""
    with pytest.raises(ApiError, match="may not exceed 50"):
        parse_all(["not an address"] * 51, field="to", most=50)


def test_control_characters_never_reach_a_header():
    """Even a mailbox made by hand cannot carry them."""
    with pytest.raises(Unrenderable):
        mailboxes_of([Mailbox("A\r\nBcc: x@y.z", "a@b.org")])
