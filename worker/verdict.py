"""What a reply means for the recipients: the only place that decides. Pure.

- 2yz delivered, 4yz deferred, 5yz failed, for each recipient by the reply that was about it.
- What is ours or the network's (DNS, TLS, connection, timeout) is deferred, whatever its words: a fault of
  infrastructure never fails a message. Can't tell means deferred.
- Deferred turns into failed only by age (4.4.7), which outbox/schedule.py decides.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from outbox.message import Attempt, Outcome
from outbox.states import State
from outbox.suppression import Origin
from worker import errors
from worker.reply import Code, Reply
from worker.transaction import Transaction

MAX_TEXT = 500  # characters of a server's words that are kept
IN_DOUBT = "; the final dot was sent, so the next hop may have the message"

_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?!\S)")  # RFC 3463 section 2, at the start of the text

# Our own words (RFC 3463) for what happened without a reply about a recipient. Class 5 only where a definite answer
# says that trying again cannot help: the domain is not there, takes no mail, or the server cannot take this message.
_STATUS: dict[type[errors.DeliveryError], str] = {
    errors.LookupFailed: "4.4.3",
    errors.NoRoute: "4.4.4",
    errors.ConnectFailed: "4.4.1",
    errors.ConnectionLost: "4.4.2",
    errors.StepTimeout: "4.4.2",
    errors.Garbled: "4.5.0",
    errors.TlsFailed: "4.7.5",
    # A negative greeting or EHLO (554 and all) speaks about our host or the server's day, not about a recipient: RFC
    # 5321 section 3.1 tells us to try another host, and an address list entry or an overload ends.
    errors.HopRefused: "4.3.2",
    errors.ContentAway: "4.3.0",
    errors.AuthFailed: "4.7.8",  # our password is our affair: mail waits until it is right
    errors.CannotSign: "4.7.5",  # RFC 3463: cryptographic failure; mail waits until the keys can be read
    errors.NoSuchDomain: "5.1.2",
    errors.NullMx: "5.1.10",  # RFC 7505 section 4.1
    errors.Smtputf8Missing: "5.6.7",  # RFC 6531 section 3.5
    errors.TooLarge: "5.3.4",  # RFC 1870 section 6.1
}

_BY_CLASS = {2: State.DELIVERED, 4: State.DEFERRED, 5: State.FAILED}


def judge(transaction: Transaction, recipients: Sequence[int]) -> tuple[Outcome, ...]:
    """One outcome per recipient; `recipients` are in the order of the transaction's RCPTs."""
    whole = transaction.dot or _refusal(transaction.data)
    refused = _negative(transaction.mail)
    outcomes = []
    for index, rcpt in zip(recipients, transaction.rcpts, strict=True):
        # MAIL refused: whatever RCPT then says (503) follows from that. RCPT refused: its own reply stands, even if a
        # pipelined DATA then says 554 "no valid recipients", which must not turn a greylisting 450 into a failure.
        if (about := refused or (rcpt and (_negative(rcpt, rcpt=True) or whole))) is not None:
            outcomes.append(from_reply(index, about))
        elif transaction.error is not None:
            outcome = from_error(index, transaction.error)
            outcomes.append(replace(outcome, text=f"{outcome.text}{IN_DOUBT}") if transaction.in_doubt else outcome)
        else:
            outcomes.append(Outcome(index, State.DEFERRED, 0, "4.5.0", "the next hop did not say how it ended"))
    return tuple(outcomes)


# The address itself is refused (RFC 3463 section 3.2, and 5.2.1; 5.1.10 is Exchange Online's). Not among them: spam,
# policy, full mailboxes, senders, and domains, which come back.
_OF_THE_ADDRESS = frozenset({"5.1.1", "5.1.3", "5.1.6", "5.1.10", "5.2.1"})
_WITHOUT_STATUS = frozenset({550, 551, 553})  # mailbox unavailable, user not local, mailbox name not allowed
_UNKNOWN_USER = re.compile(
    r"\b(user|mailbox|recipient)\b.{0,40}\b(unknown|not found|not exist)\b"
    r"|\b(no such|unknown|invalid)\b.{0,20}\b(user|mailbox|recipient)\b",
    re.IGNORECASE,
)


def to_suppress(transaction: Transaction, recipients: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """The recipients whose address is to get no mail from now on: their own RCPT was refused, as an address, for good.

    A whole transaction that is refused says nothing about any one of them, and neither do our own or the network's
    troubles.
    """
    if transaction.mail is not None and not transaction.mail.positive:
        return ()
    refused = []
    for index, rcpt in zip(recipients, transaction.rcpts, strict=True):
        if rcpt is not None and not rcpt.positive and _is_about_the_address(rcpt):
            refused.append((index, Origin.BOUNCE))
    return tuple(refused)


def _is_about_the_address(reply: Reply) -> bool:
    if reply.code // 100 != 5:  # noqa: PLR2004  (permanent)
        return False
    status = enhanced(reply)
    if status != "5.0.0":
        return status in _OF_THE_ADDRESS
    return reply.code in _WITHOUT_STATUS and _UNKNOWN_USER.search(reply.text) is not None


def _refusal(data: Reply | None) -> Reply | None:
    """The reply to DATA, where the server did not ask for content."""
    return None if data is not None and data.code == Code.START_INPUT else _negative(data)


def _negative(reply: Reply | None, *, rcpt: bool = False) -> Reply | None:
    """The reply, if it ends the matter for a recipient."""
    if reply is None or reply.positive:
        return None
    if rcpt and reply.code == Code.STORAGE_EXCEEDED:
        # RFC 5321 section 4.5.3.1.10: old servers mean "too many recipients", to be read as 452.
        return Reply(Code.TOO_MANY_RECIPIENTS, tuple(re.sub(r"^5(?=\.\d)", "4", line) for line in reply.lines))
    return reply


def from_reply(recipient: int, reply: Reply) -> Outcome:
    """The outcome that a final reply means."""
    state = _BY_CLASS.get(reply.code // 100, State.DEFERRED)
    return Outcome(recipient, state, reply.code, enhanced(reply), reply.text[:MAX_TEXT])


def from_error(recipient: int, error: errors.DeliveryError) -> Outcome:
    """The outcome of an attempt that ended without a reply about the recipient."""
    status = _STATUS.get(type(error), "4.0.0")
    state = State.FAILED if status[0] == "5" else State.DEFERRED
    return Outcome(recipient, state, error.reply.code if error.reply else 0, status, str(error)[:MAX_TEXT])


def all_by_error(recipients: Iterable[int], error: errors.DeliveryError) -> tuple[Outcome, ...]:
    """The same error for everyone."""
    return tuple(from_error(recipient, error) for recipient in recipients)


def enhanced(reply: Reply) -> str:
    """The enhanced status code; X.0.0 if it is missing or its class is not the reply's (as Postfix's smtp_chat.c)."""
    first = reply.code // 100
    found = _ENHANCED.match(reply.lines[0]) if reply.lines else None
    if found and int(found[1]) == first:
        return found[0]
    return f"{first if first in _BY_CLASS else 4}.0.0"


def expire(attempt: Attempt) -> Attempt:
    """The attempt as the last one: what would be deferred has failed (RFC 3463 X.4.7)."""
    outcomes = tuple(
        replace(o, state=State.FAILED, status="4.4.7", text=f"delivery time expired; last: {o.text}"[:MAX_TEXT])
        if o.state is State.DEFERRED
        else o
        for o in attempt.outcomes
    )
    return replace(attempt, outcomes=outcomes)
