"""A message as a page for people: who wrote what to whom, and its body in a box that can do nothing. Pure."""

from collections.abc import Mapping
from html import escape
from typing import Any

# The words are a stranger's: they run nothing, load nothing from anywhere, send no form, and no search finds them.
SAFE = {
    "content-security-policy": "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-robots-tag": "noindex",
    "cache-control": "private, no-store",
}
_STYLE = "body{font:16px sans-serif;margin:1rem}dt{color:#666}dd{margin:0 0 .5rem}iframe{width:100%;height:80vh}"
_SHOWN = {"from": "From", "to": "To", "cc": "Cc", "reply_to": "Reply to", "created_at": "Date"}


def page_of(email: Mapping[str, Any]) -> str:
    """The page. `email` is as clients see it; hidden recipients are not shown."""
    subject = escape(email["subject"]) or "(no subject)"
    rows = "".join(f"<dt>{title}</dt><dd>{_words(email[name])}</dd>" for name, title in _SHOWN.items() if email[name])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{subject}</title><style>{_STYLE}</style>'
        f"<h1>{subject}</h1><dl>{rows}</dl>{_body(email)}</html>"
    )


def _words(value: str | list[str]) -> str:
    return escape(value if isinstance(value, str) else ", ".join(value))


def _body(email: Mapping[str, Any]) -> str:
    if email["html"] is not None:
        return f'<iframe sandbox title="Message" srcdoc="{escape(email["html"])}"></iframe>'
    return f"<pre>{escape(email['text'] or '')}</pre>"
