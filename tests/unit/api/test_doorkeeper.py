"""Which requests may be refused at the socket: only those whose end is beyond doubt."""

import pytest

from api.doorkeeper import Head, head_of

LINE = b"POST /emails HTTP/1.1\r\n"
LENGTH = b"Content-Length: 5\r\n"


def test_a_usual_request_is_known_by_its_head():
    """Whatever the letters' case, with all, part or nothing of its body."""
    head = b"POST /emails/batch HTTP/1.1\r\nHost: x\r\ncontent-LENGTH: 5\r\nAccept: */*\r\n\r\n"
    for body in (b"", b"{", b"{   }"):
        assert head_of(head + body) == Head("/emails/batch", len(head) + 5)


@pytest.mark.parametrize(
    "request_",
    [
        b"",
        LINE,
        LINE + LENGTH,
        LINE + b"Host: x\r\n\r\n",
        LINE + LENGTH + b"\r\n{   }POST",
        LINE + LENGTH + LENGTH + b"\r\n{   }",
        LINE + LENGTH + b"Content-Length : 7\r\n\r\n{   }",
        LINE + b"Content-Length: 5, 5\r\n\r\n{   }",
        LINE + b"Content-Length: 99999999\r\n\r\n{",
        LINE + LENGTH + b"Transfer-Encoding: chunked\r\n\r\n{   }",
        LINE + LENGTH + b"Expect: 100-continue\r\n\r\n",
        LINE + LENGTH + b"Connection: close\r\n\r\n{   }",
        LINE.replace(b"1.1", b"1.0") + LENGTH + b"\r\n{   }",
        LINE.replace(b"POST", b"GET") + LENGTH + b"\r\n{   }",
        b"POST /emails?x=1 HTTP/1.1\r\n" + LENGTH + b"\r\n{   }",
        b"POST /domains HTTP/1.1\r\n" + LENGTH + b"\r\n{   }",
    ],
)
def test_any_other_goes_the_usual_way(request_):
    """Nothing is guessed: where a body ends decides where the next request begins."""
    assert head_of(request_) is None
