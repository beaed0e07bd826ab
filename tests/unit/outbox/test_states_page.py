"""docs/states.md tells what the code does."""

import re
from pathlib import Path

from outbox.states import MOVES, State, last_event

PAGE = (Path(__file__).parents[3] / "docs" / "states.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


def words(cell):
    return set(re.findall(r"`([a-z_]+)`", cell))


def test_moves_of_the_page_are_the_table():
    """Each row of the moves table is a row of MOVES, and none is missing."""
    told = {row[0].strip("`"): (words(row[1]), words(row[2])) for row in ROWS if row[3].endswith(".lua`")}
    table = {name: ({*map(str, leaves)}, {*map(str, reaches)}) for name, (leaves, reaches) in MOVES.items()}
    assert told == table


def test_states_of_the_page_are_the_enum():
    """Each state has its row, with the word that Resend's clients see."""
    told = {row[0].strip("`"): words(row[3]) for row in ROWS if not row[3].endswith(".lua`")}
    assert told == {str(state): {str(last_event([state]))} for state in State}


def test_each_move_has_its_script():
    """A move is one Lua file of its name."""
    folder = Path(__file__).parents[3] / "outbox" / "lua"
    assert {f"{move}.lua" for move in MOVES} <= {path.name for path in folder.iterdir()}
