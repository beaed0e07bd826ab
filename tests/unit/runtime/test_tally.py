"""Our counters show what the client library's would."""

from itertools import count

import prometheus_client
import pytest
from prometheus_client.registry import REGISTRY

from runtime.tally import Durations, Tally

BUCKETS = (0.1, 1, 5)
_names = (f"test_tally_{n}" for n in count())


def samples(name, *, but):
    """All that is shown under a name, less the instants of creation."""
    (family,) = (family for family in REGISTRY.collect() if family.name == name)
    return family.type, {
        (s.name.replace(name, ""), *s.labels.items()): s.value for s in family.samples if not s.name.endswith(but)
    }


@pytest.mark.parametrize("label", ["step", ""])
def test_durations_are_a_histogram(label):
    """Buckets hold what is at most their bound; sum, count and labels are there, and when it was made."""
    ours, theirs = next(_names), next(_names)
    mine = Durations(ours, "Words", label=label, buckets=BUCKETS)
    reference = prometheus_client.Histogram(theirs, "Words", [label] if label else [], buckets=BUCKETS)
    assert samples(ours, but="_created") == samples(theirs, but="_created")
    for seconds in (0.05, 0.1, 0.5, 5, 60):
        mine.observe(seconds, label and "dot")
        (reference.labels("dot") if label else reference).observe(seconds)
    assert samples(ours, but="_created") == samples(theirs, but="_created")
    assert samples(ours, but="_bucket")[1].keys() == samples(theirs, but="_bucket")[1].keys()


def test_a_tally_is_a_counter():
    """One series for each combination of labels that was counted."""
    ours, theirs = next(_names), next(_names)
    mine, reference = (
        Tally(ours, "Words", "route", "state"),
        prometheus_client.Counter(theirs, "Words", ["route", "state"]),
    )
    for labels in (("mx", "delivered"), ("mx", "failed"), ("mx", "delivered")):
        mine.by[labels] += 1
        reference.labels(*labels).inc()
    assert samples(ours, but="_created") == samples(theirs, but="_created")
    assert samples(ours, but="_total")[1].keys() == samples(theirs, but="_total")[1].keys()


def test_a_known_value_is_there_from_the_start():
    """Zero is shown, so that a rate can be told from the first event on; a lone label needs no tuple."""
    ours, theirs = next(_names), next(_names)
    mine, reference = Tally(ours, "Words", "code", known=["250"]), prometheus_client.Counter(theirs, "Words", ["code"])
    reference.labels("250")
    assert samples(ours, but="_created") == samples(theirs, but="_created")
    mine.by["451"] += 3
    reference.labels("451").inc(3)
    assert samples(ours, but="_created") == samples(theirs, but="_created")
