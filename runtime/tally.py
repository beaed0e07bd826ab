"""Counters for Prometheus of what happens a thousand times a second: counting is an addition, a scrape does the rest.

The client library's own counter may be used by many threads, and takes seven calls and a lock for each event.
"""

import time
from collections import Counter
from collections.abc import Iterable

from prometheus_client import REGISTRY
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector


class Tally(Collector):
    """A counter with one label, for one event loop: `tally.by["250"] += 1`."""

    def __init__(self, name: str, documentation: str, label: str, values: Iterable[str] = ()) -> None:
        """Show it from now on, those `values` of the label at zero."""
        self.by = Counter(dict.fromkeys(values, 0))
        self._name, self._documentation, self._label = name, documentation, label
        self._since = time.time()
        REGISTRY.register(self)

    def collect(self) -> Iterable[Metric]:
        """What a scrape sees."""
        family = CounterMetricFamily(self._name, self._documentation, labels=[self._label])
        for value, count in list(self.by.items()):
            family.add_metric([value], count, created=self._since)
        yield family
