"""Rules of the guards that need no database."""

import pytest

from history.budget import Supply, demand, shortage
from history.faults import words
from history.guards import Environment, Mark, MendForbidden, Permit, ProductionRefused, require
from history.roles import LOGINS, OWNER_ATTRIBUTES, attributes
from runtime.settings import Settings

LIVE = Mark("live", Environment.PRODUCTION)


@pytest.mark.parametrize(
    "permit", [None, Permit("", "live"), Permit("  ", "live"), Permit("T-1", ""), Permit("T-1", "dev")]
)
def test_production_asks_for_ticket_and_name(permit):
    """Production refuses whoever gives no ticket, or not its name."""
    with pytest.raises(ProductionRefused):
        require(LIVE, permit)


def test_the_refusal_does_not_tell_the_name():
    """Whoever got the name wrong is somewhere else than they believe: they are not helped to get it right."""
    with pytest.raises(ProductionRefused) as raised:
        require(LIVE, Permit("T-1", "dev"))
    assert "live" not in str(raised.value)


@pytest.mark.parametrize("mark", [None, Mark("live", Environment.STAGING), Mark("live", Environment.DEVELOPMENT)])
def test_elsewhere_nothing_is_asked(mark):
    """An unprotected database, staging and development need no permit from us."""
    require(mark, None)
    require(LIVE, Permit("T-1", "live"))


@pytest.mark.parametrize(
    ("mark", "command"),
    [
        (LIVE, "migrate --ticket TICKET --name NAME`"),
        (Mark("trial", Environment.STAGING), "migrate`"),
        (None, "protect --name NAME`"),
    ],
)
def test_a_forbidden_mending_names_one_command(mark, command):
    """What the backlog shows while the recorder waits for a person is the command that ends it."""
    assert words(MendForbidden(mark)).endswith(f"`nightmail database {command}")


SUPPLY = Supply(login="nightmail_recorder", limit=8, room=97)


@pytest.mark.parametrize(
    ("wanted", "supply", "fits"),
    [
        ({"recorder": 8, "control": 89}, SUPPLY, True),  # all to the last
        ({"recorder": 9, "control": 4}, SUPPLY, False),  # more than its login may have
        ({"recorder": 8, "control": 90}, SUPPLY, False),  # more than the server has
        ({"recorder": 9, "control": 4}, Supply("nightmail_recorder", -1, 97), True),  # no limit on the login
        ({"recorder": 4, "control": 9}, Supply("nightmail_control", 8, 97), False),
        ({"recorder": 4, "control": 8}, Supply("nightmail_control", 8, 97), True),
        ({"recorder": 4, "control": 4}, Supply("shared", 8, 97), True),  # one login bears them all
        ({"recorder": 4, "control": 5}, Supply("shared", 8, 97), False),
        ({"recorder": 1, "control": 1}, Supply("shared", 0, 97), False),
    ],
)
def test_what_fits(wanted, supply, fits):
    """The sum of a login's processes fits its limit, and the sum of all fits the server."""
    assert (shortage(wanted, supply) == "") is fits


def test_demand_counts_pools_times_processes():
    """Each process counts with its whole pool, the control API with the chaos switch's connection too."""
    settings = Settings(database_pool=3, recorder_processes=2, control_processes=5, chaos=True)
    assert demand(settings) == {"recorder": 6, "control": 20}
    assert demand(settings.model_copy(update={"chaos": False})) == {"recorder": 6, "control": 15}


def test_every_login_is_limited():
    """Each login has a limit and all four timeouts, none has a right of a superuser, and the owner cannot log in."""
    for role in LOGINS:
        statements = attributes(role)
        assert "NOSUPERUSER" in statements[0]
        assert f"CONNECTION LIMIT {role.connections}" in statements[0]
        assert sum("timeout = " in statement and not statement.endswith("= 0") for statement in statements) == 4
    assert " NOLOGIN " in OWNER_ATTRIBUTES
