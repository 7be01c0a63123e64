# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of a task: observe, plan, check, try changed configurations, apply, wait until ready, report."""

from __future__ import annotations

import concurrent.futures
import contextlib
import hashlib
import time
import typing as t
from dataclasses import replace

from . import ports, preflight, processes, readiness
from . import supervisor as _supervisor
from .command_line import capabilities
from .config import Config, read_config
from .instance import Instance
from .managed import ManagedInstance
from .management import ManagementError, ask
from .plan import Action, Desired, Observed, describe_drops, plan
from .supervisor import Supervisor
from .supervisor_process import ProcessSupervisor
from .supervisor_systemd import SystemdSupervisor, instances_in
from .trial import TrialFailed, remove_leftovers, run_trial

TRIALS_AT_ONCE = 8  # a trial occupies a CPU
STARTS_AT_ONCE = 64  # a start mostly waits
# Action -> its word in the result
RESULTS = {
    "start": "started",
    "restart": "restarted",
    "stop": "stopped",
    "remove": "removed",
    "enable": "enabled",
    "disable": "disabled",
    "write": "configured",
    "pin": "pinned",
}


def choose_supervisor(name: str) -> Supervisor:
    """The supervisor of a module's parameter C(supervisor): auto, systemd, process."""
    if name == "auto":
        name = "systemd" if _supervisor.has_systemd() else "process"
    return SystemdSupervisor() if name == "systemd" else ProcessSupervisor()


class Lifecycle:
    """One task. C(timeout) in seconds, for a start and for a trial; C(warn) receives sentences for the user."""

    def __init__(self, supervisor: Supervisor, desired: Desired, timeout: float, warn: t.Callable[[str], None]):
        self.supervisor = supervisor
        self.desired = desired
        self.timeout = timeout
        self.warn = warn
        self.managed: dict[str, ManagedInstance] = {}
        self.actions: list[Action] = []
        self.changed = False  # whether any action was begun

    # --- observe and plan ---------------------------------------------------------------------------------------------

    def prepare(self, instances: t.Sequence[Instance]) -> None:
        """Observe the instances and plan the actions."""
        observed = self.supervisor.observe(instances)
        for instance in instances:
            self.managed[instance.name] = self._observe(instance, observed[instance.name])
        states = [(managed.instance, managed.observed, managed.drop_in) for managed in self.managed.values()]
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            self.actions = list(pool.map(self._with_drops, plan(self.desired, states)))
        for action in self.actions:
            if action.instance:
                self.managed[action.instance.name].actions.append(action)

    def _observe(self, instance: Instance, observed: Observed) -> ManagedInstance:
        config = read_config(instance.config) if self.desired.state != "absent" else None
        caps = capabilities(config)
        drop_in = self.supervisor.drop_in(instance, caps)
        written = next(iter(instances_in(observed.drop_in or "")), instance)
        if observed.pid and self.desired.state != "absent":
            # The CPUs of a running process can change, so they do not decide whether it restarts.
            cpus = _supervisor.recorded_cpus(instance, observed.pid, written.cpus)
            digest = self._digest(replace(instance, cpus=cpus), config, caps)
            observed = replace(
                observed,
                current=self._is_current(instance, config, observed, digest),
                repin=cpus != instance.cpus,
                only_cpus=self.supervisor.drop_in(replace(instance, cpus=written.cpus), caps) == observed.drop_in,
            )
        digest = self._digest(instance, config, caps)
        return ManagedInstance(instance, config, caps, observed, drop_in, digest, pid=observed.pid)

    def _digest(self, instance: Instance, config: Config | None, caps: t.Sequence[str]) -> str:
        definition = self.supervisor.definition(instance, caps)
        return hashlib.sha256(f"{config.digest if config else ''}\n{definition}".encode()).hexdigest()

    def _with_drops(self, action: Action) -> Action:
        """The action with the number of clients that it disconnects."""
        if action.op not in ("restart", "stop") or not self.managed[action.target.name].observed.pid:
            return action
        with contextlib.suppress(ManagementError):
            stats = ask(action.target.management, lambda management: management.load_stats(), attempts=2)
            return replace(action, drops=stats.get("nclients"))
        return action

    def _is_current(self, instance: Instance, config: Config | None, observed: Observed, digest: str) -> bool:
        if config is None:  # check mode: an earlier task would write it
            return False
        files = [*config.files, *(f for f in observed.files if f.endswith(".conf"))]
        return _supervisor.is_current(
            _supervisor.read_record(instance),
            observed.pid,
            processes.start_ticks(observed.pid),
            digest,
            unchanged=_supervisor.newest_change(files) < processes.started_at(observed.pid),
        )

    # --- check --------------------------------------------------------------------------------------------------------

    def invalid_parameters(self) -> list[str]:
        """Errors that no other task can fix."""
        systemd = self.supervisor.name == "systemd"
        return preflight.invalid_parameters(self.managed.values(), systemd=systemd) if self.desired.running else []

    def missing_prerequisites(self) -> list[str]:
        """Errors that an earlier task may fix: check mode assumes that it did."""
        return preflight.missing_prerequisites(self.managed.values()) if self.desired.running else []

    def failing_starts(self) -> dict[str, str]:
        """Name of an instance -> why its start would fail."""
        return preflight.failing_starts(self.managed.values(), self.warn) if self.desired.running else {}

    def commands(self) -> list[str]:
        """The actions as shell commands."""
        lines: list[str] = []
        for action in self.actions:
            managed = self.managed[action.instance.name] if action.instance else None
            commands = self.supervisor.commands(
                action, managed.observed if managed else Observed(), managed.caps if managed else []
            )
            if managed and commands and action.op in ("restart", "stop") and managed.has_clients:
                commands[0] += f"  # {describe_drops(action.drops)}"
            lines += commands
        return lines

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Apply the actions. An instance that fails keeps its error; the others continue.

        Nothing is changed if a start would fail or a trial fails.
        """
        for managed in self.managed.values():
            remove_leftovers(managed.instance)
        failing = self.failing_starts()
        for name, reason in failing.items():
            self.managed[name].fail(f"{reason}; nothing was changed")
        if failing or not self._trials_pass():
            return
        of_processes = [action for action in self.actions if action.op in ("start", "restart", "stop")]
        others = [action for action in self.actions if action not in of_processes]
        absent = self.desired.state == "absent"  # files and units are removed after the process has ended
        for action in () if absent else others:
            self._apply_one(action)
        self._free_ports(of_processes)
        serving = [action for action in of_processes if self._interrupts(action)]
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            futures = [pool.submit(self._apply_one, action) for action in of_processes if action not in serving]
            if self.desired.running:
                acted_on = {action.target.name for action in of_processes}
                unchanged = [managed for name, managed in self.managed.items() if name not in acted_on]
                futures += [
                    pool.submit(readiness.check_running, managed, self.supervisor, self.timeout, self.warn)
                    for managed in unchanged
                ]
        for future in futures:
            future.result()
        self._restart_in_turn(serving)
        for action in others if absent else ():
            self._apply_one(action)

    def _interrupts(self, action: Action) -> bool:
        """Whether it is the restart of an instance that serves: a process in its namespace."""
        observed = self.managed[action.target.name].observed
        return action.op == "restart" and bool(observed.pid) and observed.in_netns

    def _restart_in_turn(self, actions: t.Sequence[Action]) -> None:
        """Restart the instances of one namespace after the other; those of the host's own namespace one by one.

        So one member at a time is without service, and after a failure the others keep serving.
        """
        groups: dict[str, list[Action]] = {}
        for action in actions:
            groups.setdefault(action.target.netns or f"/{action.target.name}", []).append(action)
        failed = ""
        for group in groups.values():
            if failed:
                for action in group:
                    self.managed[action.target.name].fail(f"not restarted, because {failed} failed; it runs as before")
                continue
            with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
                list(pool.map(self._apply_one, group))
            failed = next((action.target.name for action in group if self.managed[action.target.name].error), "")

    def _free_ports(self, actions: t.Sequence[Action]) -> None:
        """If instances exchange ports, stop all that restart before the first one starts."""
        starting = [self.managed[action.target.name] for action in actions if action.op in ("start", "restart")]
        if not ports.in_use(preflight.endpoints(starting), ()):
            return
        stops = [Action("stop", managed.instance) for managed in starting if managed.observed.pid]
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            list(pool.map(self._apply_one, stops))

    def _trials_pass(self) -> bool:
        """One failed trial stops the task: instances mostly share their configuration."""
        tried = [managed for managed in self.managed.values() if any(action.trial for action in managed.actions)]
        with concurrent.futures.ThreadPoolExecutor(TRIALS_AT_ONCE) as pool:
            list(pool.map(self._try, tried))
        return not any(managed.error for managed in tried)

    def _try(self, managed: ManagedInstance) -> None:
        if managed.config is None:  # reported by missing_prerequisites()
            return
        try:
            run_trial(managed.instance, managed.config, managed.caps, self.timeout)
        except TrialFailed as exc:
            managed.fail(f"{exc}; the running instance was not touched", exc.log)
        except OSError as exc:
            managed.fail(f"the new configuration could not be tried: {exc}; the running instance was not touched")

    def _apply_one(self, action: Action) -> None:
        if action.instance is None:
            self.changed = True
            self.supervisor.apply(action, Observed(), [], self.timeout)
            return
        managed = self.managed[action.instance.name]
        if managed.error:  # an earlier action failed
            return
        since = time.time()
        managed.touched = self.changed = True
        starts = action.op in ("start", "restart")
        try:
            self.supervisor.apply(action, managed.observed, managed.caps, self.timeout)
            if starts:
                readiness.wait_until_ready(managed, self.supervisor, since, self.timeout)
            elif action.op in ("stop", "remove"):
                managed.pid = 0
            elif action.op == "pin":
                _supervisor.write_record(managed.instance, managed.pid, managed.digest)
        except readiness.NotReady as exc:
            managed.fail(str(exc), exc.log)
        except OSError as exc:
            managed.fail(str(exc), self.supervisor.log(managed.instance, since) if starts else [])
        if managed.error and action.op == "start":  # a first start that failed is not left half-started
            with contextlib.suppress(OSError):
                observed = replace(managed.observed, pid=self.supervisor.pid(managed.instance))
                self.supervisor.apply(replace(action, op="stop"), observed, managed.caps, 0)
        if managed.error:
            managed.pid = self.supervisor.pid(managed.instance)

    # --- report -------------------------------------------------------------------------------------------------------

    def report(self, *, predicted: bool) -> list[dict[str, t.Any]]:
        """The result of each instance. C(predicted): check mode, all actions count as done."""
        return [self._result(managed, predicted=predicted) for managed in self.managed.values()]

    def _result(self, managed: ManagedInstance, *, predicted: bool) -> dict[str, t.Any]:
        done = managed.actions if predicted or managed.touched else []
        interruption = next((a for a in done if a.op in ("restart", "stop") and managed.has_clients), None)
        reason = next((action.reason for action in done if action.reason), "")
        result: dict[str, t.Any] = {
            "name": managed.name,
            "actions": [RESULTS[action.op] for action in done],
            "reason": f"{reason}; this {describe_drops(interruption.drops)}" if interruption else reason,
            "pid": managed.pid,
        }
        if interruption:
            result["dropped_clients"] = interruption.drops
        if managed.config and managed.observed.pid and not managed.actions:
            changed = preflight.changed_since(managed.config, processes.started_at(managed.observed.pid))
            result.update({"refreshed": changed} if changed else {})
        if managed.error:
            result["error"] = managed.error
        return result

    @property
    def errors(self) -> list[str]:
        """The errors of the instances that failed."""
        return [managed.error for managed in self.managed.values() if managed.error]
