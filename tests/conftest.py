"""Fixtures that every test may ask for."""

from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # how long an example takes says something of the machine alone
settings.load_profile("untimed")

# In this order: each may import those before it, and a plugin that was imported already is not rewritten for asserts.
pytest_plugins = [
    "tests.fixtures.valkey",
    "tests.fixtures.object_store",
    "tests.fixtures.postgres",
    "tests.fixtures.history",
]
