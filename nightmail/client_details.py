"""What a client needs to reach a stack, and the file `local.env` that keeps it for the next start and for scripts."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from nightmail.complaint import Complaint
from nightmail.ready import reachable
from nightmail.stack_folder import StackFolder, read_environment, write_environment
from runtime.settings import Settings

SMTP_USER = "resend"  # any name is taken; this one is what Resend's documentation says


@dataclass(frozen=True, slots=True)
class ClientDetails:
    """Address and key of the API, and of SMTP submission, whose password is the key too."""

    url: str
    api_key: str
    smtp_host: str
    smtp_port: int
    smtps_port: int

    @classmethod
    def of(cls, settings: Settings, api_key: str) -> Self:
        """Of a stack on this machine."""
        host = reachable(settings.host)
        return cls(f"http://{host}:{settings.api_port}", api_key, host, settings.smtp_port, settings.smtps_port)

    def to_environment(self) -> dict[str, str]:
        """The variables of `local.env`, with the names that Resend's libraries read."""
        return {
            "NIGHTMAIL_URL": self.url,
            "RESEND_API_URL": self.url,
            "RESEND_BASE_URL": self.url,
            "RESEND_API_KEY": self.api_key,
            "NIGHTMAIL_SMTP_HOST": self.smtp_host,
            "NIGHTMAIL_SMTP_PORT": str(self.smtp_port),
            "NIGHTMAIL_SMTPS_PORT": str(self.smtps_port),
            "NIGHTMAIL_SMTP_USER": SMTP_USER,
            "NIGHTMAIL_SMTP_PASSWORD": self.api_key,
        }

    @classmethod
    def from_environment(cls, variables: Mapping[str, str]) -> Self:
        """The inverse of `to_environment`. Raises KeyError."""
        return cls(
            variables["NIGHTMAIL_URL"],
            variables["RESEND_API_KEY"],
            variables["NIGHTMAIL_SMTP_HOST"],
            int(variables["NIGHTMAIL_SMTP_PORT"]),
            int(variables["NIGHTMAIL_SMTPS_PORT"]),
        )


def keep(folder: StackFolder, details: ClientDetails) -> None:
    """Write `local.env`."""
    write_environment(folder.local_env, details.to_environment())


def kept_key(folder: StackFolder) -> str | None:
    """The API key of the last start."""
    return read_environment(folder.local_env).get("RESEND_API_KEY")


def api_of(settings: Settings) -> tuple[str, str]:
    """(URL, API key) for a command that speaks to a stack: from the environment, else from `local.env`."""
    variables = {**read_environment(StackFolder(settings.data_dir).local_env), **os.environ}
    try:
        return variables["NIGHTMAIL_URL"], variables["RESEND_API_KEY"]
    except KeyError as missing:
        raise Complaint(
            f"{missing.args[0]} is not set and {settings.data_dir / 'local.env'} has none. Is a stack running "
            "(`nightmail up`), and is NIGHTMAIL_DATA_DIR its folder?"
        ) from None
