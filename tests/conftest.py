"""Fixtures that every test may ask for."""

pytest_plugins = ["tests.fixtures.valkey", "tests.fixtures.mail"]
