import pytest

from outbox.domains import is_reserved


@pytest.mark.parametrize(
    "domain",
    [
        *("example.com", "EXAMPLE.net", "mail.example.org", "example.com.", "deep.er.example.com"),
        *("test", "a.test", "x.example", "y.invalid", "localhost", "db.localhost"),
    ],
)
def test_reserved_names_are_known(domain: str):
    """The names of RFC 2606 and RFC 6761 are reserved, with all names below them."""
    assert is_reserved(domain)


@pytest.mark.parametrize(
    "domain", ["resend.dev", "example.de", "myexample.com", "example.com.de", "test.com", "contest", "localhost.de", ""]
)
def test_names_that_look_alike_are_not_reserved(domain: str):
    """A name is reserved by whole labels, from the right."""
    assert not is_reserved(domain)
