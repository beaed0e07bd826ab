"""The key from which ids of idempotent requests are derived: the same on every node, for ever."""

from runtime.settings import Settings

_LEAST_BYTES = 16


def load_secret(settings: Settings) -> bytes:
    """From the setting, or from the file `secret` in the data folder. Raises ValueError when there is no good one."""
    if settings.secret is not None:
        secret = settings.secret.get_secret_value().encode()
    else:
        path = settings.data_dir / "secret"
        if not path.exists():
            raise ValueError(f"NIGHTMAIL_SECRET is not set and {path} does not exist")
        secret = path.read_bytes().strip()
    if len(secret) < _LEAST_BYTES:
        raise ValueError(f"NIGHTMAIL_SECRET needs at least {_LEAST_BYTES} bytes")
    return secret
