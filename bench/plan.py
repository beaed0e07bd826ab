"""How much is measured: rounds and mails, from the command line."""

from collections.abc import Callable
from dataclasses import dataclass

Tell = Callable[[str], None]  # what a row says while it runs


@dataclass(frozen=True)
class Plan:
    """The same for every row; each takes what it needs."""

    rounds: int = 5
    mails: int = 3000  # of one run
    backlog: int = 1_000_000  # mails that wait, for the row about a long queue
    dead: int = 200_000  # mails for a domain that does not answer
    settings: tuple[tuple[str, str], ...] = ()  # of our stack, beyond its defaults: `--set workers=2`

    @property
    def of_stack(self) -> dict[str, str]:
        """Settings as the stack takes them."""
        return dict(self.settings)
