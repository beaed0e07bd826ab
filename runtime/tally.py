"""Metrics of the hot paths: plain numbers, put into Prometheus's words when it asks.

The client library's own take half a dozen calls and a lock for each event, because any thread may count. Here one
thread counts and any may read.
"""

import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import REGISTRY, Collector
from prometheus_client.utils import floatToGoString

_CREATED = time.time()


class Tally(Collector):
    """A counter: `by[value of its label] += 1`, or of its labels, as a tuple."""

    def __init__(self, name: str, documentation: str, *labels: str, known: Iterable[str] = ()) -> None:
        """Show it from now on, those `known` values of the label at zero."""
        self.by: Counter[str | tuple[str, ...]] = Counter(dict.fromkeys(known, 0))
        self._about = (name, documentation)
        self._labels = labels
        REGISTRY.register(self)

    def collect(self) -> Iterable[CounterMetricFamily]:
        """The counter as Prometheus reads it."""
        family = CounterMetricFamily(*self._about, labels=self._labels)
        for value, count in tuple(self.by.items()):
            family.add_metric((value,) if isinstance(value, str) else value, count, created=_CREATED)
        yield family


class Durations(Collector):
    """A histogram of seconds, with one label or none."""

    def __init__(self, name: str, documentation: str, *, label: str = "", buckets: Sequence[float]) -> None:
        self._about = (name, documentation)
        self._labels = (label,) if label else ()
        self._bounds = buckets
        self._counts: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(buckets) + 1))  # by value of it
        self._sums: defaultdict[str, float] = defaultdict(float)
        if not label:  # shown from the start, as every metric without labels
            self._counts[""], self._sums[""]
        REGISTRY.register(self)

    def observe(self, seconds: float, value: str = "") -> None:
        """Count one; `value` is that of the label."""
        self._counts[value][bisect_left(self._bounds, seconds)] += 1
        self._sums[value] += seconds

    def observe_all(self, milliseconds: Mapping[str, float]) -> None:
        """Count one of each of these values of the label."""
        bounds, counts, sums = self._bounds, self._counts, self._sums
        for value, ms in milliseconds.items():
            seconds = ms / 1000
            counts[value][bisect_left(bounds, seconds)] += 1
            sums[value] += seconds

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """The histogram as Prometheus reads it."""
        family = HistogramMetricFamily(*self._about, labels=self._labels)
        bounds = [*map(floatToGoString, self._bounds), "+Inf"]
        for value, total in tuple(self._sums.items()):
            labels = (value,) if self._labels else ()
            family.add_metric(labels, list(zip(bounds, accumulate(self._counts[value]), strict=True)), total)
            family.add_sample(f"{family.name}_created", dict(zip(self._labels, labels, strict=True)), _CREATED)
        yield family
