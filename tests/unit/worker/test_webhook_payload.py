"""What webhooks get of each event, in Resend's form."""

import orjson
import pytest

from outbox import events
from outbox.events import Event
from outbox.message import Attempt, Claim, Outcome
from outbox.receipt import Receipt
from outbox.sender_domain import Hosts
from outbox.states import State
from runtime.clock import to_ms
from tests.fixtures.mail import NOON, a_message
from worker.webhook_payload import payloads

MAIL = a_message("ann@one.test", "bob@one.test", tags=(("kind", "welcome"),), message_id_header="<1@ours.test>")
HOSTS = Hosts("a:ours.test", "")
LATER = a_message("ann@one.test", scheduled_at=NOON.replace(hour=13))


def told(raw, message=MAIL):
    """(type, data) of what is made of an event."""
    found = payloads(Event(1, orjson.loads(raw)), message, HOSTS)
    bodies = [orjson.loads(payload.body) for payload in found]
    assert [payload.type for payload in found] == [body["type"] for body in bodies]
    assert {body["created_at"] for body in bodies} <= {"2026-03-01T12:00:00.000Z"}
    return [(body["type"], body["data"]) for body in bodies]


def attempted(*outcomes, message=MAIL, attempts=0):
    claim = Claim(message, b"", 0, "one.test", tuple(o.recipient for o in outcomes), attempts, 1, False)
    return events.attempted(Receipt(claim, Attempt(NOON, "mx", outcomes), NOON, NOON), worker="w")


def test_accepted_mail_is_sent_for_each_recipient():
    """One message for each, `to` is that recipient, and tags are an object."""
    (first, second) = told(events.accepted(MAIL))
    assert first == (
        "email.sent",
        {
            "email_id": MAIL.id,
            "message_id": "<1@ours.test>",
            "created_at": "2026-03-01T12:00:00.000Z",
            "from": "Sender <sender@ours.test>",
            "to": ["ann@one.test"],
            "subject": "Hello",
            "tags": {"kind": "welcome"},
        },
    )
    assert second[1]["to"] == ["bob@one.test"]


def test_scheduled_mail_is_scheduled_first_and_sent_with_its_first_attempt():
    """Later attempts say nothing of `sent`."""
    ok = Outcome(0, State.DELIVERED, 250, "2.0.0", "ok")
    later = Outcome(0, State.DEFERRED, 450, "4.2.0", "later")
    assert [kind for kind, _ in told(events.accepted(LATER), LATER)] == ["email.scheduled"]
    first = told(attempted(later, message=LATER), LATER)
    assert [kind for kind, _ in first] == ["email.sent", "email.delivery_delayed"]
    assert [kind for kind, _ in told(attempted(ok, message=LATER, attempts=1), LATER)] == ["email.delivered"]


@pytest.mark.parametrize(
    ("code", "status", "kind", "sub_type"),
    [
        (550, "5.1.1", "Permanent", "General"),
        (550, "5.0.0", "Permanent", "General"),
        (552, "5.2.2", "Transient", "MailboxFull"),
        (552, "5.3.4", "Transient", "MessageTooLarge"),
        (0, "4.4.7", "Transient", "General"),
        (0, "5.1.2", "Permanent", "General"),
    ],
)
def test_a_bounce_has_its_type(code, status, kind, sub_type):
    """Amazon's words, which Resend's clients know; the server's own words beside them."""
    ((name, data),) = told(attempted(Outcome(1, State.FAILED, code, status, "no")))
    assert (name, data["to"]) == ("email.bounced", ["bob@one.test"])
    diagnostic = [f"smtp; {code} no"] if code else []
    assert data["bounce"] == {"message": "no", "type": kind, "subType": sub_type, "diagnosticCode": diagnostic}


@pytest.mark.parametrize(
    ("why", "reason"), [("bounce", "previous_bounce"), ("complaint", "previous_complaint"), ("manual", "manual")]
)
def test_a_suppressed_recipient_hears_why(why, reason):
    """From the words of the outcome."""
    text = f"the address is on the suppression list ({why})"
    ((name, data),) = told(attempted(Outcome(0, State.SUPPRESSED, 0, "5.7.1", text)))
    assert name == "email.suppressed"
    assert data["suppressed"] == {
        "message": text, "type": "OnAccountSuppressionList", "reason": reason, "diagnosticCode": [],
    }  # fmt: skip


def test_complaints_and_held_mail():
    """Only for the recipients that the event names."""
    ((name, data),) = told(events.complained(MAIL.id, (1,), at=NOON))
    assert (name, data["to"]) == ("email.complained", ["bob@one.test"])
    held = {"kind": "held", "at": to_ms(NOON), "id": MAIL.id, "delivery": 0, "recipients": [0], "reason": "leases_lost"}
    assert [(name, data["failed"]) for name, data in told(orjson.dumps(held))] == [
        ("email.failed", {"reason": "leases_lost"})
    ]


def test_the_suppression_list():
    """Added with its origin; removed as it was, where the event knows that."""
    value = {"id": "17", "origin": "bounce", "source_id": "m1", "created_at": to_ms(NOON)}
    ((name, data),) = told(events.policy_changed("suppression", "ann@one.test", value, at=NOON))
    assert (name, data) == (
        "suppression.added",
        value | {"email": "ann@one.test", "created_at": "2026-03-01T12:00:00.000Z"},
    )
    ((name, data),) = told(events.policy_changed("suppression", "ann@one.test", None, at=NOON))
    assert (name, data["email"]) == ("suppression.removed", "ann@one.test")
    ((name, data),) = told(events.policy_changed("suppression", "ann@one.test", None, at=NOON, was=value))
    assert (name, data["id"], data["origin"]) == ("suppression.removed", "17", "bounce")
    assert told(events.policy_changed("api_key", "k", {"name": "x"}, at=NOON)) == []


def test_an_event_told_again_makes_the_same_message():
    """Under another number, after a rebuild; another recipient's or another time's is another."""
    raw = orjson.loads(attempted(Outcome(0, State.DELIVERED, 250), Outcome(1, State.DELIVERED, 250)))
    first = [p.id for p in payloads(Event(7, raw), MAIL, HOSTS)]
    assert [p.id for p in payloads(Event(200_001, raw | {"restored": True}), MAIL, HOSTS)] == first
    later = [p.id for p in payloads(Event(8, raw | {"at": raw["at"] + 1}), MAIL, HOSTS)]
    assert len({*first, *later}) == 4
    assert all(message_id.startswith("msg_") for message_id in first)


def test_what_resend_does_not_know_is_not_told():
    """Cancelling, releasing, rebuilding; and mail that nobody remembers."""
    assert told(events.cancelled(MAIL.id, at=NOON)) == []
    assert told(events.rebuilt(1, "g", at=NOON), None) == []
    assert told(attempted(Outcome(0, State.DELIVERED, 250)), None) == []
