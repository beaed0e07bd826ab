"""The mailbox's two pages. Every value goes through `escape`; a mail's HTML is only ever shown in a sandboxed frame."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from nightmail.mailbox.store import Search
from runtime.clock import from_ms

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; max-width: 70rem; padding: 1.5rem; }
h1 { font-size: 1.2rem; } h1 a { color: inherit; text-decoration: none; }
table { border-collapse: collapse; width: 100%; }
td, th { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #8884; vertical-align: top; }
td { overflow-wrap: anywhere; } th { white-space: nowrap; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #8881; padding: 1rem; }
iframe { width: 100%; height: 32rem; border: 1px solid #8884; background: white; }
input { font: inherit; } .dim { opacity: .7; }
"""


def index(messages: Sequence[Mapping[str, Any]], search: Search, count: Mapping[str, int]) -> str:
    """The newest messages, and a form to find some."""
    rows = "".join(_row(message) for message in messages)
    return _page(
        "Mailbox",
        f"""
<p class="dim">{count["messages"]} messages, {count["unique_message_ids"]} Message-IDs,
{count["recipients"]} recipients.</p>
<form><input name="to" placeholder="recipient" value="{escape(search.to)}">
<input name="subject" placeholder="subject" value="{escape(search.subject)}"> <button>Find</button></form>
<table><tr><th>Received<th>From<th>To<th>Subject<th>Octets</tr>{rows}</table>
{"" if messages else "<p>Nothing here.</p>"}""",
    )


def _row(message: Mapping[str, Any]) -> str:
    return (
        f"<tr><td>{_instant(message)}<td>{escape(message['reverse_path'] or '<>')}<td>{_joined(message['recipients'])}"
        f'<td><a href="/view/{message["n"]}">{escape(message["subject"] or "(no subject)")}</a>'
        f"<td>{message['size']}</tr>"
    )


def message(summary: Mapping[str, Any], headers: Iterable[Sequence[str]], parts: Sequence[Mapping[str, Any]]) -> str:
    """One message: envelope, header, parts."""
    number = summary["n"]
    fields = "".join(f"<tr><th>{escape(name)}<td>{escape(value)}</tr>" for name, value in headers)
    return _page(
        summary["subject"] or "(no subject)",
        f"""
<p class="dim">Received {_instant(summary)} from {escape(summary["reverse_path"] or "<>")}
for {_joined(summary["recipients"])}. <a href="/messages/{number}/raw">Raw</a> <a href="/messages/{number}">JSON</a></p>
<table>{fields}</table>{"".join(_part(number, part) for part in parts)}""",
    )


def _part(number: int, part: Mapping[str, Any]) -> str:
    title = " ".join(str(word) for word in (part["content_type"], part["filename"]) if word)
    heading = f'<h2>{escape(title)} <span class="dim">{part["size"]} octets</span></h2>'
    if part["text"] is None:
        return heading
    if part["content_type"] == "text/html":
        return f'{heading}<iframe sandbox="" src="/view/{number}/html" title="HTML part"></iframe>'
    return f"{heading}<pre>{escape(part['text'])}</pre>"


def _joined(addresses: Iterable[str]) -> str:
    return escape(", ".join(addresses))


def _instant(message: Mapping[str, Any]) -> str:
    return from_ms(message["received_at"]).strftime("%Y-%m-%d %H:%M:%S")


def _page(title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(title)} - Nightmail</title>'
        f'<style>{_STYLE}</style><h1><a href="/">Nightmail mailbox</a></h1>{body}</html>'
    )
