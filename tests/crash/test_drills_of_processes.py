"""`kill -9` of every process of a whole stack under load."""

from tests.fixtures.drills import broken_promises


def test_every_process_is_killed_in_turn():
    """No mail is refused or lost; one that comes twice is flagged."""
    missed = broken_promises("kill-each", mails=600, rate=50)
    assert [row for row in missed if row["figure"] != "duplicated"] == []
