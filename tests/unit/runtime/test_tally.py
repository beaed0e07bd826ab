"""Counters that cost an addition look like those of the client library when they are scraped."""

from prometheus_client import REGISTRY, CollectorRegistry, Counter, generate_latest

from runtime.tally import Tally


def lines(registry, name):
    """What a scrape says of a metric, less the moment when it was made."""
    told = [line for line in generate_latest(registry).decode().splitlines() if name in line]
    return sorted(line.rpartition(" ")[0] if "_created{" in line else line for line in told)


def test_a_scrape_sees_what_was_counted():
    """Names, labels and types are the same, and a known value is there from the start."""
    own = CollectorRegistry()
    theirs = Counter("nightmail_tallied_total", "Tallied", ["code"], registry=own)
    theirs.labels("250")
    ours = Tally("nightmail_tallied_total", "Tallied", "code", ["250"])
    try:
        assert lines(REGISTRY, "nightmail_tallied") == lines(own, "nightmail_tallied")
        theirs.labels("451").inc(3)
        ours.by["451"] += 3
        assert lines(REGISTRY, "nightmail_tallied") == lines(own, "nightmail_tallied")
    finally:
        REGISTRY.unregister(ours)
