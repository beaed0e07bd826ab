"""The unmodified official SDK for Node on numbers about mail, which need the database."""

from tests.fixtures.waiting import until_sync

MAIL = {"from": "Acme <on@acme.test>", "to": ["ann@one.test"], "subject": "Hello", "html": "<p>Hi</p>"}


def test_numbers(sdk):
    """What was sent is counted, by the hour too."""
    options = {"metrics": ["sent", "delivery_rate"], "dimensions": ["period"], "granularity": "hourly"}
    before = sdk("emails.metrics", options)["totals"]["sent"]
    sdk("emails.send", MAIL)
    until_sync(lambda: sdk("emails.metrics", options)["totals"]["sent"] > before)
    assert sdk("usage.get")["emails"]["monthly"]["sent"] > before
