"""Ids in paths and queries."""

import re
from typing import Annotated

from fastapi import Path

from api.errors import ApiError

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# A plain string to FastAPI, so that a wrong one is refused in our words and not in its own.
EmailId = Annotated[str, Path(json_schema_extra={"format": "uuid"})]
ObjectId = Annotated[str, Path(json_schema_extra={"format": "uuid"})]


def parse_id(written: str, *, field: str = "id") -> str:
    """An id in its one form, lower case. Raises ApiError 422."""
    if not _UUID.fullmatch(written):
        raise ApiError(422, "invalid_parameter", f"The `{field}` must be a valid UUID.")
    return written.lower()
