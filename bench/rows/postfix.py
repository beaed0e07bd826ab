"""Side by side with Postfix: round by round one side, then the other, each started anew on the same sink and disk."""

import tempfile
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from bench import postfix, probes
from bench.figures import Figure, at_least, at_most, quantile, ratios, told
from bench.plan import Plan, Tell
from bench.postfix import Postfix
from bench.probes import Measured, Side
from bench.sink import Sink
from bench.stack import Nightmail

ROWS = {
    "smtp": "SMTP submission to the sink, 20 sessions, against Postfix",
    "http": "POST /emails, 32 connections, against Postfix's SMTP; latency at half load",
    "batch": "POST /emails/batch of 100 to the sink, against Postfix's SMTP",
    "idle": "one mail at a time, submission to the sink's 250, against Postfix",
    "signed": "SMTP submission to the sink, each mail with two DKIM signatures, against Postfix without",
}
_SMTP, _HTTP, _BATCH, _IDLE, _SIGNED = ROWS


def measure(rows: Collection[str], plan: Plan, tell: Tell) -> list[Figure]:
    """The figures of these rows. Without a Postfix there is nothing to compare with: our figures alone are told."""
    ours: Measured = defaultdict(list)
    theirs: Measured = defaultdict(list)
    absent = postfix.missing()
    if absent:
        tell(f"{absent}: without it no ratio can be told.")
    for number in range(plan.rounds):
        for name in ("Nightmail",) if absent else ("Postfix", "Nightmail"):
            measured = _one_round(name, rows, plan)
            into = theirs if name == "Postfix" else ours
            for what, values in measured.items():
                into[what] += values
            tell(f"round {number + 1} {name}: {_shown(measured)}")
    return [figure for row in rows for figure in _FIGURES[row](ours, theirs)]


def _one_round(name: str, rows: Collection[str], plan: Plan) -> Measured:
    with tempfile.TemporaryDirectory(prefix="nightmail-bench-") as folder, Sink() as sink:
        if name == "Postfix":
            with Postfix(Path(folder) / "postfix", sink.port) as side:
                return _measured(side, sink, rows, plan)
        with Nightmail(Path(folder) / "nightmail", sink.port, **plan.of_stack) as stack:
            measured = _measured(stack, sink, rows, plan)
            if _HTTP in rows:
                measured |= probes.http(stack, sink, plan.mails)
            if _BATCH in rows:
                measured |= probes.batch(stack, sink, plan.mails)
            if _SIGNED in rows:
                measured |= probes.signed(stack, sink, plan.mails)
            return measured


def _measured(side: Side, sink: Sink, rows: Collection[str], plan: Plan) -> Measured:
    """What both sides go through. Postfix's SMTP is what our HTTP is compared with."""
    probes.warm(side, sink)
    measured = probes.idle(side, sink) if _IDLE in rows else {}
    if _SMTP in rows or (side.name == "Postfix" and set(rows) & {_HTTP, _BATCH, _SIGNED}):
        measured |= probes.smtp(side, sink, plan.mails)
    return measured


def _smtp_figures(ours: Measured, theirs: Measured) -> list[Figure]:
    figures = _against(_SMTP, "delivered/s to Postfix's", 2.5, ours["delivered"], theirs["delivered"])
    figures += [
        told(_SMTP, "Nightmail, delivered", ours["delivered"], unit="/s"),
        told(_SMTP, "Nightmail, accepted", ours["accepted"], unit="/s"),
        told(_SMTP, "Nightmail, delivered and recorded", ours["recorded"], unit="/s"),
        *_hops(_SMTP, ours),
    ]
    if theirs:
        figures += [
            told(_SMTP, "Postfix, delivered", theirs["delivered"], unit="/s"),
            told(_SMTP, "Postfix, accepted", theirs["accepted"], unit="/s"),
            told(_SMTP, "Postfix, processor time a mail", theirs["smtp cpu"], unit="ms", digits=2),
        ]
    return figures


def _http_figures(ours: Measured, theirs: Measured) -> list[Figure]:
    return [
        *_against(_HTTP, "accepted/s to Postfix's by SMTP", 1.5, ours["http"], theirs["accepted"]),
        told(_HTTP, "Nightmail, accepted", ours["http"], unit="/s"),
        at_most(_HTTP, "half load: p99 to p50", 5, ratios(ours["half p99"], ours["half p50"])),
        *_hops(_HTTP, ours),
        told(_HTTP, "half load: p50", ours["half p50"], unit="ms", digits=1),
        told(_HTTP, "half load: p99", ours["half p99"], unit="ms", digits=1),
        at_most(_HTTP, "half load: refused or not sent", 0, ours["half refused"], unit="mails", digits=0),
    ]


def _hops(row: str, ours: Measured) -> list[Figure]:
    """Where the milliseconds go."""
    first = f"{row} cpu "
    return [
        told(row, "Nightmail, processor time a mail", ours[first.strip()], unit="ms", digits=2),
        *(
            told(row, f"  of it {what.removeprefix(first)}", ours[what], unit="ms", digits=2)
            for what in list(ours)
            if what.startswith(first)
        ),
    ]


def _batch_figures(ours: Measured, theirs: Measured) -> list[Figure]:
    return [
        *_against(_BATCH, "delivered/s to Postfix's", 4.0, ours["batch"], theirs["delivered"]),
        told(_BATCH, "Nightmail, delivered", ours["batch"], unit="/s"),
        told(_BATCH, "Nightmail, delivered and recorded", ours["batch recorded"], unit="/s"),
        *_hops(_BATCH, ours),
    ]


def _idle_figures(ours: Measured, theirs: Measured) -> list[Figure]:
    """Of all rounds together: one round is too short for a p99."""
    figures = []
    for share, word in ((0.5, "p50"), (0.99, "p99")):
        here = quantile(ours["idle"], share)
        if theirs:
            figures.append(at_most(_IDLE, f"{word} to Postfix's", 1.0, [here / quantile(theirs["idle"], share)]))
            figures.append(told(_IDLE, f"Postfix, {word}", [quantile(theirs["idle"], share)], unit="ms", digits=1))
        figures.append(told(_IDLE, f"Nightmail, {word}", [here], unit="ms", digits=1))
        figures.append(
            told(_IDLE, f"Nightmail, {word} of our 250", [quantile(ours["idle accept"], share)], unit="ms", digits=1)
        )
    return figures


def _signed_figures(ours: Measured, theirs: Measured) -> list[Figure]:
    """That mail was signed shows in the workers' time."""
    return [
        *_against(_SIGNED, "delivered/s to Postfix's", 1.5, ours["signed"], theirs["delivered"]),
        told(_SIGNED, "Nightmail, delivered", ours["signed"], unit="/s"),
        *_hops(_SIGNED, ours),
    ]


def _against(row: str, what: str, bound: float, ours: list[float], theirs: list[float]) -> list[Figure]:
    return [at_least(row, what, bound, ratios(ours, theirs))] if theirs else []


_FIGURES = {
    _SMTP: _smtp_figures,
    _HTTP: _http_figures,
    _BATCH: _batch_figures,
    _IDLE: _idle_figures,
    _SIGNED: _signed_figures,
}


def _shown(measured: Measured) -> str:
    return ", ".join(f"{what} {quantile(values, 0.5):,.1f}" for what, values in measured.items() if " cpu " not in what)
