import os
import subprocess
import sys
from pathlib import Path

import pytest

GROUP = Path("/proc/self/autogroup")
CODE = """
import os
from pathlib import Path
from nightmail.roles.behind import stand_behind
stand_behind(7)
print(os.nice(0), Path("/proc/self/autogroup").read_text())
"""


def priorities(*, own_session: bool) -> tuple[int, int]:
    """That of a process that stood behind, and that of its session."""
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, start_new_session=own_session
    )
    process, _, _, session = done.stdout.split()
    return int(process), int(session)


@pytest.mark.skipif(not GROUP.exists(), reason="processors are not shared out by session here")
def test_who_stands_behind_does_so_with_its_session():
    """Its own session is lowered too, or its priority would count for nothing; somebody else's is left alone."""
    here, session = os.nice(0), int(GROUP.read_text().split()[-1])
    assert priorities(own_session=True) == (here + 7, here + 7)
    assert priorities(own_session=False) == (here + 7, session)
