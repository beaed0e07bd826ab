"""A whole stack on a disk whose power is cut, mail on its way: cut, look, boot, and go on."""

import asyncio
import os
import random
import secrets
import shutil
import signal
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from faults.checker import Kill
from faults.drill import Drill, Trouble
from faults.figures import Asked, figures_of, none_of
from faults.load import LedgerOnDisk
from faults.power.disk import LoopDisk
from faults.power.queue import Queue
from faults.power.survivors import Survivors, another_boot
from faults.runs import Result, Run, Setup
from faults.stores import Stores
from nightmail.demo.own_stack import stack_in
from nightmail.stack_folder import StackFolder, read_environment

_PORTS = "_PORT"  # how the names of a stack's ports end: after a boot they must be the same


class Machine:
    """Boots, loses its power, boots again. Blocking."""

    def __init__(self, disk: LoopDisk, log: Path) -> None:
        self._disk = disk
        self._log = log
        self._life = ExitStack()
        self._variables: dict[str, str] = {}
        self.data_dir = disk.root / "data"
        self.data_dir.mkdir()

    def boot(self) -> StackFolder:
        """Start the stack and wait until it serves."""
        folder = self._life.enter_context(stack_in(self.data_dir, self._variables))
        started = read_environment(folder.stack_env)
        self._variables = {name: value for name, value in started.items() if name.endswith(_PORTS)}
        return folder

    def cut(self) -> Survivors:
        """Stop all, cut the power, bury them, mount the disk again; what is on it, before anything of ours runs."""
        state = StackFolder(self.data_dir).state()
        if state is None:
            raise RuntimeError("there is no stack to cut the power of")
        everyone = [state["pid"], *(process["pid"] for process in state["processes"] if process["pid"])]
        _signal(everyone, signal.SIGSTOP)
        self._disk.cut()
        _signal(everyone, signal.SIGKILL)
        self._life.close()
        self._disk.restore()
        another_boot(self.data_dir)
        return self._look()

    def _look(self) -> Survivors:
        queue = Queue(self.data_dir, port=int(self._variables["NIGHTMAIL_VALKEY_PORT"]), log=self._log)
        queue.start()
        try:
            with queue.client() as client:
                return Survivors.read(self.data_dir, client, name="subject")
        finally:
            queue.stop()

    def shut_down(self) -> None:
        """A clean stop."""
        self._life.close()


def _signal(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:  # a child died by its leash when the supervisor did
            continue


def whole(count: int, asked: Asked) -> Run:
    """So many cuts under a stack that accepts, delivers and records."""

    def run(setup: Setup) -> Result:
        with tempfile.TemporaryDirectory(prefix="nightmail-power-") as name, LoopDisk(Path(name)) as disk:
            machine = Machine(disk, Path(name) / "power.log")
            ledger = LedgerOnDisk(secrets.token_hex(4), Path(name) / "ledger")
            try:
                drill = Drill(machine.boot(), setup.load, Stores(), ledger=ledger)
                account = asyncio.run(drill.run(_cuts(machine, count)))
            finally:
                machine.shut_down()
                ledger.close()
                if setup.logs:
                    shutil.copytree(machine.data_dir / "log", setup.logs, dirs_exist_ok=True)
            return Result([*figures_of(account, asked), *drill.figures], drill.notes)

    return run


def _cuts(machine: Machine, count: int) -> Trouble:
    async def trouble(drill: Drill) -> None:
        chance = random.Random(drill.ledger.run)  # noqa: S311 - moments, not secrets
        missing: set[str] = set()
        for _ in range(count):
            await asyncio.sleep(drill.seconds / count * chance.uniform(0.3, 0.7))
            at = time.time()
            left = await asyncio.to_thread(machine.cut)
            # Whatever the client has heard by now was said before the cut: nobody is there to say more.
            missing |= {drill.ledger.subject(number) for number in drill.ledger.receipts} - left.all
            drill.note(f"power cut; {len(left.queue)} in the queue, {len(left.journal)} in journals", at=at)
            await asyncio.to_thread(machine.boot)
            drill.kills.append(Kill("power", at, time.time()))
        drill.figures.append(none_of("acknowledged and on no store after a cut", len(missing)))

    return trouble
