"""Errors in clear words: what is wrong, and which setting or command mends it. Never a traceback."""

import click
from pydantic import ValidationError

from runtime.settings import Settings


class Complaint(click.ClickException):
    """Something the person at the terminal can mend. Exit code 1."""


def load_settings() -> Settings:
    """The settings of the environment, or a complaint that names each wrong variable."""
    try:
        return Settings()
    except ValidationError as error:
        raise Complaint("\n".join(_lines(error))) from None


def _lines(error: ValidationError) -> list[str]:
    lines = []
    for problem in error.errors(include_url=False, include_context=False, include_input=False):
        name = "_".join(str(place) for place in problem["loc"])
        variable = f"NIGHTMAIL_{name.upper()}: " if name else ""
        lines.append(variable + problem["msg"].removeprefix("Value error, "))
    return lines
