"""The life of a local stack: check, start, publish, keep alive, stop."""

import os
import time
from collections.abc import Callable
from typing import Any

from nightmail import client_details, embedded, operator_key, ports, ready
from nightmail.client_details import ClientDetails
from nightmail.complaint import Complaint
from nightmail.fork import can_fork, load_shared
from nightmail.stack_folder import StackFolder, write_environment
from nightmail.supervisor import Alarm, Supervisor
from runtime.clock import now
from runtime.settings import Settings

_PATIENCE = 60.0  # seconds for everything to serve; a stack on a large queue has to load it first
_HOPELESS = 3  # deaths in a row of one process before it is ready: it will not come up


class LocalStack:
    """One stack in one folder."""

    def __init__(self, settings: Settings) -> None:
        self._began = time.monotonic()
        self._started_at = now()
        self._state = "starting"
        self.settings = embedded.resolve(settings)
        self.folder = StackFolder(self.settings.data_dir)

    def run(self, announce: Callable[[ClientDetails, Settings, float], None]) -> None:
        """Start, call `announce` with the seconds it took, and serve until a signal. Raises Complaint."""
        os.umask(0o077)  # mail is nobody else's business; the processes inherit this
        with self.folder.hold():
            stack = embedded.prepare(self.settings)
            self.settings = stack.settings
            ports.demand_free(self.settings, stack.ports)
            write_environment(self.folder.stack_env, stack.environment)
            with Alarm() as alarm:
                supervisor = self._supervisor(stack, alarm)
                try:
                    details = self._start(supervisor, stack, alarm)
                    if details:
                        announce(details, self.settings, time.monotonic() - self._began)
                    while not alarm.stopping:
                        supervisor.tend()
                finally:
                    self._state = "stopping"
                    self._publish(supervisor, stack)
                    supervisor.stop()

    def _supervisor(self, stack: embedded.Stack, alarm: Alarm) -> Supervisor:
        supervisor = Supervisor(
            environment=embedded.child_environment(stack.environment),
            log_folder=self.folder.log,
            alarm=alarm,
            changed=lambda: self._publish(supervisor, stack),
        )
        return supervisor

    def _start(self, supervisor: Supervisor, stack: embedded.Stack, alarm: Alarm) -> ClientDetails | None:
        """The queue first, then the key, then all but the workers, who wait for their next hop. None: a signal came."""
        if stack.store:
            supervisor.start([stack.store])
        if can_fork():
            load_shared()  # while the queue loads its data
        self._await(supervisor, alarm, lambda: [] if ready.store_answers(self.settings) else ["the queue"])
        if alarm.stopping:
            return None
        details = ClientDetails.of(self.settings, operator_key.ensure_key(self.settings, self.folder))
        supervisor.start(program for program in stack.programs if program not in stack.delivering)
        self._await(supervisor, alarm, lambda: [] if ready.mailbox_serves(self.settings) else ["mailbox"])
        supervisor.start(stack.delivering)
        self._await(supervisor, alarm, lambda: ready.missing(self.settings))
        if alarm.stopping:
            return None
        client_details.keep(self.folder, details)
        self._state = "ready"
        self._publish(supervisor, stack)
        return details

    def _await(self, supervisor: Supervisor, alarm: Alarm, missing: Callable[[], list[str]]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not alarm.stopping and (absent := missing()):
            supervisor.tend(at_most=0.05)
            if hopeless := supervisor.failing(_HOPELESS):
                raise Complaint(
                    f"{hopeless.program.name} does not start. Its log {hopeless.log} ends so:\n{hopeless.last_words()}"
                )
            if time.monotonic() > deadline:
                raise Complaint(
                    f"After {_PATIENCE:.0f} s still not serving: {', '.join(absent)}. See {self.folder.log}."
                )

    def _publish(self, supervisor: Supervisor, stack: embedded.Stack) -> None:
        state: dict[str, Any] = {
            "pid": os.getpid(),
            "state": self._state,
            "started_at": self._started_at.isoformat(),
            "data_dir": str(self.settings.data_dir),
            "url": f"http://{ready.reachable(self.settings.host)}:{self.settings.api_port}",
            "ports": stack.ports,
            "processes": [child.to_dict() for child in supervisor.children],
        }
        self.folder.publish(state)
