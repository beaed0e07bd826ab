"""The plain way to send mail from a queue: one RQ job per message. What the row `rq-jobs` compares with."""

import smtplib


def deliver(port: int, sender: str, recipient: str, content: bytes) -> None:
    """The job."""
    with smtplib.SMTP("127.0.0.1", port, timeout=30) as client:
        client.sendmail(sender, [recipient], content)
