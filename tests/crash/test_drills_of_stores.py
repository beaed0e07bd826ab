"""The database and the queue are taken away for real under a whole stack: no mail is refused, lost or doubled."""

import pytest

from tests.fixtures.drills import broken_promises


@pytest.mark.parametrize("name", ["database-modes", "redis-killed"])
def test_a_store_is_taken_away(name):
    """Every mail is accepted, arrives once, as it was sent, and is in the history once."""
    assert broken_promises(name, mails=480, rate=60) == []
