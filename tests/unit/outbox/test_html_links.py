"""Links are replaced where a browser sees them, and nothing else of the HTML changes."""

import pytest
from lxml import html as lxml_html

from outbox.html_links import replaced


def urls(html):
    """The addresses that were seen."""
    seen = []
    assert replaced(html, seen.append) == html
    return seen


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ('<a href="http://a.test/?b=1&amp;c=2">x</a>', ["http://a.test/?b=1&c=2"]),
        ("<A HREF = 'http://a.test/ü'>x</A>", ["http://a.test/ü"]),
        ("<a class=x href=http://a.test/b/>x", ["http://a.test/b/"]),
        ("<a\n\thref\n=\nhttp://a.test\n>x", ["http://a.test"]),
        ("<a/href=http://a.test>", ["http://a.test"]),
        ('<a title="a > b" href="http://a.test">', ["http://a.test"]),
        ('<a href="http://a.test" href="http://b.test">', ["http://a.test"]),
        ("<a data-href=http://b.test href=http://a.test>", ["http://a.test"]),
        ("<a href>", []),
        ("<a href=>", []),
        ("<a>", []),
        ('<map><area href="http://a.test"></map><link href="http://b.test">', ["http://a.test"]),
        ('<abbr href="http://a.test">', []),
        ("<a href='http://a.test' data-nightmail-no-track>", []),
        ("<a ses:no-track href='http://a.test'>", []),
        ("<!-- <a href='http://b.test'> --><a href='http://a.test'>", ["http://a.test"]),
        ("<!--><a href='http://a.test'>-->", ["http://a.test"]),
        ("<!--[if mso]><a href='http://b.test'><![endif]--><![if !mso]><a href='http://a.test'>", ["http://a.test"]),
        ("<style>a::after{content:'<a href=http://b.test>'}</style><a href='http://a.test'>", ["http://a.test"]),
        ("<script>'<a href=http://b.test>'</scripty></script ><a href='http://a.test'>", ["http://a.test"]),
        ("<title><a href=http://b.test></TITLE><a href=http://a.test>", ["http://a.test"]),
        ("<a href='http://a.test", []),
        ("<p title='x > <a href=http://b.test>", []),
        ("<p a = 'x > y' b=c/ =d = e><a href='http://a.test'>", ["http://a.test"]),
        (f"<a href='http://a.test/&#{'9' * 9999};'>", ["http://a.test/\ufffd"]),
        ("1 < 2 </> </3> <? <a href=http://b.test> ?> <a href=http://a.test>", ["http://a.test"]),
        # WHATWG HTML, "named character reference state": in attributes `=` and letters keep a bare `&word` as it is.
        ("<a href='?a&copy=1&copyx&copy;&copy&#38;&#x26;&amp&nothing;&lt'>", ["?a&copy=1&copyx©©&&&&nothing;<"]),
    ],
)
def test_links_are_seen_as_a_browser_sees_them(html, expected):
    """Quotes, references, comments, texts without tags, and what is broken."""
    assert urls(html) == expected


def test_the_parser_of_libxml_agrees():
    """On ordinary mail another parser finds the same links."""
    page = "".join(f'<p><a class="b" href="https://a.test/{n}?x=1&amp;y=ü">{n}</a><br>\n' for n in range(50))
    assert urls(page) == [str(url) for url in lxml_html.fromstring(page).xpath("//a/@href")]


def test_only_the_address_changes():
    """All else stays, character for character, however odd; what is put in is written safely."""
    odd = "<BODY bgcolor=#FFF >\r\n<a  TITLE='x' {}\thref={} id=1>ü&nbsp;&unknown;</A\n></Body>\r\n\x00"
    html = odd.format("rel", "'http://a.test/'")
    assert replaced(html, lambda _: 'x"&<') == odd.format("rel", '"x&quot;&amp;&lt;"')


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("<body><p>x</body></html>", "<body><p>x!</body></html>"),
        ("<p>x", "<p>x!"),
        ("</body><a href=x>y</a>", "!</body><a href=x>y</a>"),
        ("a</body>b</BODY >c<!--</body>-->", "a</body>b!</BODY >c<!--</body>-->"),
        ("", "!"),
    ],
)
def test_the_closing_piece_goes_to_the_end_of_the_body(html, expected):
    """Before the last `</body>` that is one, else at the end."""
    assert replaced(html, lambda _: None, closing="!") == expected


@pytest.mark.parametrize(
    "unit",
    [
        "<!--",
        "<a ",
        "<a x='",
        '<a x="',
        "</",
        "<a href=",
        "<script>",
        "<![",
        "<a\t",
        "<a b=  ",
        "&amp",
        "<!-->",
        "<title",
        "=",
    ],
)
def test_hostile_texts_take_no_longer_than_others(unit):
    """What makes parsers look for the same end again and again: with them these would take hours."""
    replaced(unit * (400_000 // len(unit)), str)
    replaced("<a href=http://a.test" + unit * (400_000 // len(unit)) + ">", str)


def test_links_behind_the_body_are_replaced_whole():
    """Whatever stands behind `</body>`, nothing is put into the middle of a tag."""
    assert replaced("</body><a href=x>y</a>", lambda _: "z", closing="!") == '!</body><a href="z">y</a>'
