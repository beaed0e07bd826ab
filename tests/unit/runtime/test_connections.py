import pytest
from redis.exceptions import ConnectionError as Away
from redis.exceptions import OutOfMemoryError, ReadOnlyError, ResponseError

from outbox.errors import QueueLost
from runtime.connections import passes


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Away("refused"), True),
        (TimeoutError(), True),
        (OSError(28, "full"), True),
        (OutOfMemoryError("command not allowed"), True),
        (ReadOnlyError("You can't write against a read only replica."), True),
        (QueueLost("LOST"), True),
        (ResponseError("BUSY Valkey is busy running a script."), True),
        (ResponseError("MISCONF Errors writing to the AOF file"), True),
        (ResponseError("NOREPLICAS Not enough good replicas to write."), True),
        (ResponseError("BUSYGROUP Consumer Group name already exists"), False),
        (ResponseError("WRONGTYPE Operation against a key holding the wrong kind of value"), False),
        (ValueError("a bug"), False),
        (b"accepted", False),
    ],
)
def test_what_passes_is_told_from_what_was_asked_wrongly(error, expected):
    """Trouble of the store is waited for; a refusal of one command is not, or others would wait behind it for ever."""
    assert passes(error) is expected
