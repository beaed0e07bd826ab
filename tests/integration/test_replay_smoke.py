"""One replay from its beginning to its end, as small as it gets; the figures of time need a larger one."""

import subprocess
import sys

import orjson

TIMED = {"accept, p99", "delivery delay, p99"}


def test_february_2024_in_seconds():
    """Tables are dropped, listeners killed, an old backup restored: nothing is refused, lost or missing."""
    command = [sys.executable, "-P", "-m", "nightmail", "replay", "feb-2024"]
    options = ["--rate", "20", "--baseline", "1", "--fault", "1", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, timeout=110, check=False)
    assert done.stdout, done.stderr.decode()[-3000:]
    figures = {figure["name"]: figure for figure in orjson.loads(done.stdout)}
    missed = [figure for name, figure in figures.items() if not figure["met"] and name not in TIMED]
    assert not missed, done.stderr.decode()
    assert figures["mistakes let through"]["measured"] == "0 of 12 tries, each guard alone"
    assert "replayable: yes" in figures["wrong, older backup"]["measured"]
    assert "then" in done.stderr.decode()
