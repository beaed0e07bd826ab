"""Runs a `nightmail` command on a drill's stack, as an operator does."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from nightmail.embedded import NIGHTMAIL, child_environment
from nightmail.stack_folder import StackFolder


async def answer_of(folder: StackFolder, variables: Mapping[str, str], *words: str) -> dict[str, Any]:
    """Its JSON answer. `variables` are those that the stack was started with. Raises RuntimeError with its words."""
    process = await asyncio.create_subprocess_exec(
        *NIGHTMAIL,
        *words,
        env=child_environment({"NIGHTMAIL_DATA_DIR": str(folder.data_dir), **variables}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, errors = await process.communicate()
    if not output:
        raise RuntimeError(f"nightmail {' '.join(words)}: {errors.decode()[-500:]}")
    answer: dict[str, Any] = orjson.loads(output)
    return answer
