"""Only headers for the far end are passed on."""

from api.forward import _end_to_end


def test_hop_by_hop_headers_stay_behind():
    """Neither the known ones nor those that `Connection` names are passed on."""
    headers = [
        (b"Connection", b"close, X-Secret"),
        (b"X-Secret", b"1"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Host", b"a"),
        (b"Authorization", b"Bearer x"),
        (b"Set-Cookie", b"a"),
        (b"Set-Cookie", b"b"),
    ]
    assert _end_to_end(headers) == [(b"authorization", b"Bearer x"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]
