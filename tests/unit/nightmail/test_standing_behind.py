import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
SHARED_OUT = GROUP.exists() and GROUP.read_text()  # empty where they are off, or a control group has the say
CODE = """
import os
from pathlib import Path
from nightmail.roles.behind import stand_behind
stand_behind(7)
group = Path("/proc/self/autogroup")
print(os.nice(0), group.read_text() if group.exists() else "")
"""


def standing_behind(*, own_session: bool) -> tuple[int, int | None]:
    """The priority of a process that stood behind, and that of its session, where sessions have any."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    process, *group = done.stdout.split()
    return int(process), int(group[-1]) if group else None


def test_who_stands_behind_is_lower_itself():
    assert standing_behind(own_session=True)[0] == standing_behind(own_session=False)[0] == os.nice(0) + 7


@pytest.mark.skipif(not SHARED_OUT, reason="processors are not shared out by session here")
def test_who_stands_behind_does_so_with_its_session():
    """Its own session is lowered too, or its priority would count for nothing; somebody else's is left alone."""
    here, session = os.nice(0), int(GROUP.read_text().split()[-1])
    assert standing_behind(own_session=True) == (here + 7, here + 7)
    assert standing_behind(own_session=False) == (here + 7, session)
