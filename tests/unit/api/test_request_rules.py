"""What a request may say: each rule has its row, and each refusal its words."""

import base64
from datetime import UTC, datetime

import pytest

from api import attachments
from api.compose import Composer
from api.errors import ApiError
from api.idempotency import identify
from api.request import decode, read_email
from outbox.content import parts
from outbox.policy import ApiKey, Permission
from outbox.tracking import Tracking
from runtime.settings import Settings

NOW = datetime(2026, 11, 21, 20, 0, 0, 123000, tzinfo=UTC)
MAIL = {"from": "Acme <on@acme.org>", "to": "you@there.org", "subject": "Hello", "text": "Hi"}
ID = "01a1ffe2-c0a8-7430-a0e0-8343fa4cc8ae"
TRACKING = Tracking(Settings(secret="0123456789abcdef"))


class AnyDomain:
    """A policy under which anyone may send."""

    tracks = False

    def may_send_from(self, _domain):
        return True


def key(domain: str | None = None) -> ApiKey:
    return ApiKey("key", "name", "digest", Permission.FULL_ACCESS, domain, None, NOW)


def composed(settings: Settings | None = None, **fields):
    settings = settings or Settings(smtp_hostname="mail.acme.org")
    item = {name: value for name, value in {**MAIL, **fields}.items() if value != "absent"}
    composer = Composer(settings, AnyDomain(), TRACKING, now=lambda: NOW)
    return composer.compose(read_email(item), key(), message_id=ID, now=NOW)


def attached(**file):
    return composed(attachments=[{"filename": "a.txt", "content": "aGk=", **file}])


@pytest.mark.parametrize(
    ("fields", "status", "name", "words"),
    [
        ({"to": "absent"}, 422, "missing_required_field", "Missing `to` field."),
        ({"to": None}, 422, "missing_required_field", "Missing `to` field."),
        ({"to": []}, 422, "missing_required_field", "Missing `to` field."),
        ({"from": "absent"}, 422, "missing_required_field", "Missing `from` field."),
        ({"subject": "absent"}, 422, "missing_required_field", "Missing `subject` field."),
        ({"subject": " "}, 422, "missing_required_field", "Missing `subject` field."),
        ({"text": "absent"}, 422, "missing_required_field", "Missing `html` or `text` field."),
        ({"text": ""}, 422, "missing_required_field", "Missing `html` or `text` field."),
        ({"to": 17}, 422, "validation_error", "Invalid `to` field."),
        ({"to": ["a@b.org", 17]}, 422, "validation_error", "Invalid `to` field."),
        ({"to": ["a@b.org"] * 51}, 422, "validation_error", "may not exceed 50"),
        ({"to": ["a@b.org"] * 30, "bcc": ["c@d.org"] * 21}, 422, "validation_error", "may not exceed 50"),
        ({"to": "x@example.com"}, 422, "validation_error", "Please use our testing email address instead"),
        ({"reply_to": "x"}, 422, "validation_error", "Invalid `reply_to` field. The email address needs to follow"),
        ({"subject": "a\nBcc: x@y.org"}, 422, "validation_error", "Invalid `subject` field."),
        ({"html": 17}, 422, "validation_error", "Invalid `html` field."),
        ({"topic_id": "x"}, 422, "validation_error", "Topics are not supported yet"),
        ({"tags": [{"name": "a b", "value": "c"}]}, 422, "validation_error", "Tags should only contain ASCII letters"),
        ({"tags": [{"name": "a", "value": "x" * 257}]}, 422, "validation_error", "Tags should only contain"),
        ({"tags": [{"name": "a", "value": "b"}] * 76}, 422, "validation_error", "more than 75"),
        ({"tags": [{"name": "a"}]}, 422, "missing_required_field", "Missing `value` field."),
        ({"headers": {"X A": "b"}}, 422, "validation_error", "Invalid `headers` field."),
        ({"headers": {"X-A": "b\r\nBcc: x@y.org"}}, 422, "validation_error", "control character"),
        ({"headers": {"X-A\r\nBcc": "x@y.org"}}, 422, "validation_error", "Invalid `headers` field."),
        ({"headers": {"X-A": 17}}, 422, "validation_error", "Invalid `headers` field."),
        ({"headers": {"X-A": "x" * 1000}}, 422, "validation_error", "too long for a line"),
        ({"headers": {"X-A": "1", "x-a": "2"}}, 422, "validation_error", "A name is there twice."),
        ({"headers": {f"X-{n}": "1" for n in range(101)}}, 422, "validation_error", "more than 100"),
        ({"scheduled_at": "whenever"}, 422, "validation_error", "Invalid `scheduled_at` field."),
        ({"scheduled_at": "in 31 days"}, 422, "validation_error", "within 30 days"),
    ],
)
def test_refusals(fields, status, name, words):
    """Each row breaks one rule."""
    with pytest.raises(ApiError) as refusal:
        composed(**fields)
    assert (refusal.value.status, refusal.value.name) == (status, name)
    assert words in refusal.value.message


@pytest.mark.parametrize(
    "name", ["From", "to", "CC", "Bcc", "Date", "Message-ID", "Content-Type", "MIME-Version", "Sender", "Return-Path"]
)
def test_headers_that_are_ours(name):
    """Nobody says by a custom header who, when or what the mail is."""
    with pytest.raises(ApiError, match="cannot be set here"):
        composed(headers={name: "x"})


def test_a_message_as_it_is_accepted():
    """The envelope has everyone once, the message says what was written, the octets have no Bcc."""
    submission = composed(
        to=["Ann <ann@one.org>", "bob@two.org"], cc="ann@one.org", bcc="eve@three.org", tags=None, topic_id=None
    )
    message = submission.message
    assert [(r.address, r.kind) for r in message.recipients] == [
        ("ann@one.org", "to"), ("bob@two.org", "to"), ("eve@three.org", "bcc"),
    ]  # fmt: skip
    assert (message.to, message.cc, message.bcc) == (
        ("Ann <ann@one.org>", "bob@two.org"),
        ("ann@one.org",),
        ("eve@three.org",),
    )
    assert message.reverse_path == "on@acme.org"
    assert message.message_id_header == f"<{ID}@mail.acme.org>"
    assert message.created_at == NOW
    assert message.size == len(submission.content)
    assert b"eve" not in submission.content
    assert not message.smtputf8


def test_utf8_addresses_are_marked():
    """A local part outside ASCII needs SMTPUTF8, even in Bcc where no header shows it."""
    assert composed(bcc="jörg@there.org").message.smtputf8
    assert composed(to="Jörg <j@exämple.org>").message.smtputf8 is False


def test_times_that_have_passed_mean_now():
    """A request that is repeated late is sent, not refused."""
    assert composed(scheduled_at="2026-11-21T19:59:00Z").message.scheduled_at is None
    later = composed(scheduled_at="2026-11-21T21:00:00+00:00").message.scheduled_at
    assert later == datetime(2026, 11, 21, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    "content", [base64.b64encode(b"hi").decode(), "a\nGk=", list(b"hi"), {"type": "Buffer", "data": list(b"hi")}]
)
def test_the_wire_forms_of_attachments(content):
    """Base64, an array of integers, and a Node.js Buffer are the same file."""
    assert b"aGk=" in attached(content=content).content


@pytest.mark.parametrize(
    ("file", "name", "words"),
    [
        ({"content": None}, "invalid_attachment", "Attachment must have either a `content` or `path`."),
        ({"content": ""}, "invalid_attachment", "Attachment must have either a `content` or `path`."),
        ({"content": "a"}, "validation_error", "must be base64"),
        ({"content": "!!!!"}, "validation_error", "must be base64"),
        ({"content": [256]}, "validation_error", "must be base64"),
        ({"content": ["a"]}, "validation_error", "must be base64"),
        ({"content": {"type": "Other"}}, "validation_error", "must be base64"),
        ({"content": 17}, "validation_error", "must be base64"),
        ({"content": "\u00fc"}, "validation_error", "must be base64"),
        ({"filename": "run.EXE"}, "validation_error", "`.exe` cannot be sent"),
        ({"filename": "run.exe. "}, "validation_error", "`.exe` cannot be sent"),
        ({"filename": "a\r\nb"}, "validation_error", "`filename`"),
        ({"filename": "\u00fc" * 200}, "validation_error", "`filename`"),
        ({"content_type": "x"}, "validation_error", "`content_type`"),
        ({"content_type": "a/b\r\nBcc: x@y.org"}, "validation_error", "`content_type`"),
        ({"content_id": "a b"}, "validation_error", "`content_id`"),
        ({"content_id": "x" * 128}, "validation_error", "`content_id`"),
    ],
)
def test_attachments_that_are_refused(file, name, words):
    """Each row is a file that cannot be sent."""
    with pytest.raises(ApiError) as refusal:
        attached(**file)
    assert refusal.value.name == name
    assert words in refusal.value.message


def test_types_of_attachments():
    """The type is the client's, or follows from the name; types that base64 may not carry travel as plain files."""

    def kind(**file):
        return attachments._type(file.get("content_type"), file.get("filename", ""))

    assert kind(filename="a.pdf") == "application/pdf"
    assert kind(filename="a") == "application/octet-stream"
    assert kind(filename="a.pdf", content_type="text/x-y; charset=utf-8") == "text/x-y; charset=utf-8"
    assert kind(filename="a.eml") == "application/octet-stream"
    assert kind(filename="a.csv.gz") == "application/gzip", "what is sent, and not what comes out of it"
    assert kind(filename="a.txt.bz2") == "application/octet-stream"


def test_paths_in_file_names_are_cut():
    """Only the last part of a path is a name."""
    assert b'filename="passwd"' in attached(filename="../../etc/passwd").content
    assert b'filename="b.txt"' in attached(filename=r"C:\a\b.txt").content


def test_inline_files_by_either_name():
    """`content_id` and its old name `inline_content_id` mean the same."""
    for name in ("content_id", "inline_content_id"):
        content = composed(html="<img src=cid:x>", attachments=[{"content": "aGk=", name: "x"}]).content
        assert b"Content-ID: <x>" in content
        assert b"multipart/related" in content


def test_text_is_derived_only_when_absent():
    """Absent text is made from the HTML; an empty one opts out."""
    assert parts(composed(html="<p>x", text="absent").content).text == "x"
    assert composed(html="<p>x", text=None).message.text_derived
    assert parts(composed(html="<p>x", text="").content).text is None


def test_a_key_bound_to_a_domain():
    """It sends from that domain only."""
    composer = Composer(Settings(), AnyDomain(), TRACKING, now=lambda: NOW)
    assert composer.compose(read_email(MAIL), key("ACME.org"), message_id=ID, now=NOW)
    with pytest.raises(ApiError, match=r"not authorized to send emails from acme\.org") as refusal:
        composer.compose(read_email(MAIL), key("other.org"), message_id=ID, now=NOW)
    assert refusal.value.status == 403


def test_nesting_that_no_fingerprint_can_be_taken_of_is_refused():
    """With an Idempotency-Key less depth can be had than without."""
    parsed = decode(b'{"x":' + b"[" * 300 + b"]" * 300 + b"}")
    assert identify(None, scope="POST /emails", parsed=parsed) is None
    with pytest.raises(ApiError) as refusal:
        identify("k", scope="POST /emails", parsed=parsed)
    assert (refusal.value.status, refusal.value.name) == (400, "validation_error")
