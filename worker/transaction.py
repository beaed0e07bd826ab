"""What one MAIL transaction brought, reply by reply. A record of facts: worker/verdict.py says what they mean."""

from dataclasses import dataclass, field

from worker.errors import DeliveryError
from worker.reply import Reply


@dataclass(slots=True)
class Transaction:
    """Replies in the order of the commands; None where none came, because of `error` or since there was no need to ask.

    `in_doubt`: the final dot went out and no reply to it came, so the next hop may have the message.
    """

    rcpts: list[Reply | None]
    mail: Reply | None = None
    data: Reply | None = None
    dot: Reply | None = None
    error: DeliveryError | None = None
    in_doubt: bool = False
    steps: list[tuple[str, float]] = field(default_factory=list)  # (step, milliseconds to the hundredth)
