"""What `nightmail up` prints when it serves."""

import shlex

import orjson

from nightmail.client_details import SMTP_USER, ClientDetails
from nightmail.ready import reachable
from runtime.settings import Settings

_MAIL = {"from": "Night Mail <night@example.com>", "to": "you@example.org", "subject": "Hello", "text": "It works."}


def announcement(details: ClientDetails, settings: Settings, seconds: float) -> str:
    """Where everything is, and a line to paste."""
    rows = [
        ("API", details.url),
        ("API key", details.api_key),
        ("SMTP", f"{details.smtp_host}, port {details.smtp_port} (STARTTLS) or {details.smtps_port} (TLS)"),
        ("SMTP login", f"user {SMTP_USER}, password: the API key"),
        ("Mailbox", _next_hop(settings)),
        ("Data", f"{settings.data_dir} (connection details in local.env, logs in log/)"),
    ]
    facts = "\n".join(f"  {name:<10}  {value}" for name, value in rows)
    return f"Nightmail is up after {seconds:.1f} s.\n\n{facts}\n\nSend a mail:\n\n{curl_line(details)}\n"


def curl_line(details: ClientDetails) -> str:
    """One line that sends a mail when pasted into a shell."""
    words = ["curl", "-sS", f"{details.url}/emails", "-H", f"Authorization: Bearer {details.api_key}"]
    words += ["-H", "Content-Type: application/json", "-d", orjson.dumps(_MAIL).decode()]
    return shlex.join(words)


def _next_hop(settings: Settings) -> str:
    if settings.route == "mailbox":
        return f"http://{reachable(settings.host)}:{settings.mailbox_port} (no mail leaves this machine)"
    return f"none: mail really leaves this machine (NIGHTMAIL_ROUTE={settings.route})"
