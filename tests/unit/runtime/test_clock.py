"""Instants as they are passed round and stored."""

import time
from datetime import UTC, timedelta

from runtime import clock


def test_now_is_the_wall_clock_in_whole_milliseconds():
    """It comes back unchanged from a store of milliseconds, and is never ahead of the clock."""
    for _ in range(1000):
        before, now, after = time.time_ns() // 1_000_000, clock.now(), time.time_ns() // 1_000_000
        assert before <= clock.to_ms(now) <= after
        assert clock.from_ms(clock.to_ms(now)) == now
        assert now.tzinfo is UTC
        assert not now.microsecond % 1000


def test_a_day_of_milliseconds_survives():
    """Floats on the way lose none of them."""
    start = clock.from_ms(1_795_900_000_000)
    for ms in range(0, 86_400_000, 7_919):
        assert clock.to_ms(clock.from_ms(1_795_900_000_000 + ms)) == 1_795_900_000_000 + ms
        assert clock.from_ms(1_795_900_000_000 + ms) - start == timedelta(milliseconds=ms)
