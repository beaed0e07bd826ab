"""What a process that uses the database asks before it starts: whether all pools together fit the limits."""

from typing import Literal

from history import budget
from history.budget import BudgetExceeded
from nightmail.complaint import Complaint
from runtime.settings import Settings


def demand_room(settings: Settings, role: Literal["recorder", "control"]) -> None:
    """Raises Complaint, with the numbers and settings. A database that is away is no reason not to start."""
    try:
        budget.require(settings, role)
    except BudgetExceeded as error:
        raise Complaint(str(error)) from None
