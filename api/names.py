"""The names that people give to keys and templates."""

from api.errors import invalid, missing


def read_name(written: str, *, longest: int) -> str:
    """The name without spaces round it. Raises ApiError 422 when nothing is left, or too much."""
    name = written.strip()
    if not name:
        raise missing("name")
    if len(name) > longest:
        raise invalid(f"Invalid `name` field. It must not be longer than {longest} characters.")
    return name
