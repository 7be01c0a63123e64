# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The way of a task through its instances: look, plan, try, apply, wait until they are ready."""

from __future__ import annotations

import concurrent.futures
import contextlib
import grp
import hashlib
import os
import pwd
import shutil
import time
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.clustered.openvpn.plugins.module_utils import _supervisor as base
from ansible_collections.clustered.openvpn.plugins.module_utils._instance import (
    STATUS_INTERVAL,
    Desired,
    Instance,
    Observed,
    Step,
    capabilities,
    plan,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn import Busy, Management, ManagementError
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn_config import Config, read_config
from ansible_collections.clustered.openvpn.plugins.module_utils._supervisor import Supervisor, SupervisorError
from ansible_collections.clustered.openvpn.plugins.module_utils._supervisor_process import ProcessSupervisor
from ansible_collections.clustered.openvpn.plugins.module_utils._supervisor_systemd import (
    SystemdSupervisor,
    hidden_from_unit,
)
from ansible_collections.clustered.openvpn.plugins.module_utils._trial import COMPLETED, TrialFailed, run_trial

TRIALS_AT_ONCE = 8  # a trial is work for a CPU
STARTS_AT_ONCE = 64  # a start is mostly waiting
BUSY_ATTEMPTS = 3
PAST = {
    "start": "started",
    "restart": "restarted",
    "stop": "stopped",
    "remove": "removed",
    "enable": "enabled",
    "disable": "disabled",
    "write": "configured",
}


class NotReady(Exception):
    """An instance did not become ready. C(lines): the end of its log."""

    def __init__(self, reason: str, lines: t.Sequence[str] = ()):
        super().__init__(reason)
        self.lines = list(lines)


@dataclass
class Subject:
    """An instance on its way through the task."""

    instance: Instance
    config: Config | None
    caps: list[str]
    observed: Observed
    drop_in: str | None
    digest: str
    steps: list[Step] = field(default_factory=list)
    applied: bool = False
    pid: int = 0
    error: str = ""

    def fail(self, reason: str, lines: t.Sequence[str] = ()) -> None:
        # OpenVPN logs every question on the management socket, ours too
        told = [line for line in lines if "MANAGEMENT: " not in line]
        last = "".join(f"\n  {line}" for line in told[-base.LOG_LINES :])
        self.error = f"{self.instance.name}: {reason}" + (f". The last lines of its log:{last}" if last else "")


def choose_supervisor(wanted: str) -> Supervisor:
    if wanted == "auto":
        wanted = "systemd" if base.has_systemd() else "process"
    return SystemdSupervisor() if wanted == "systemd" else ProcessSupervisor()


class Lifecycle:
    """One task. C(warn) takes sentences for the user."""

    def __init__(self, supervisor: Supervisor, desired: Desired, timeout: float, warn: t.Callable[[str], None]):
        self.supervisor = supervisor
        self.desired = desired
        self.timeout = timeout
        self.warn = warn
        self.subjects: dict[str, Subject] = {}
        self.steps: list[Step] = []
        self.applied = False  # whether any step was begun

    # --- look and plan ------------------------------------------------------------------------------------------------

    def look(self, instances: t.Sequence[Instance]) -> None:
        observed = self.supervisor.observe(instances)
        for instance in instances:
            config = read_config(instance.config) if self.desired.state != "absent" else None
            caps = capabilities(config)
            launch = self.supervisor.launch(instance, caps)
            digest = hashlib.sha256(f"{config.digest if config else ''}\n{launch}".encode()).hexdigest()
            seen = observed[instance.name]
            if seen.pid and self.desired.state != "absent":
                seen = replace(seen, current=self._is_current(instance, config, seen, digest))
            drop_in = self.supervisor.drop_in(instance, caps)
            self.subjects[instance.name] = Subject(instance, config, caps, seen, drop_in, digest, pid=seen.pid)
        self.steps = plan(self.desired, [(s.instance, s.observed, s.drop_in) for s in self.subjects.values()])
        for step in self.steps:
            if step.instance:
                self.subjects[step.instance.name].steps.append(step)

    def _is_current(self, instance: Instance, config: Config | None, seen: Observed, digest: str) -> bool:
        if config is None:  # check mode: the file is about to be made
            return False
        files = [*config.files, *(f for f in seen.files if f.endswith(".conf"))]
        return base.is_current(
            base.read_record(instance),
            seen.pid,
            base.start_ticks(seen.pid),
            digest,
            unchanged=base.newest_change(files) < base.started_at(seen.pid),
        )

    def mistakes(self) -> list[str]:
        """What cannot be, whatever other tasks do."""
        if not self._wants_processes:
            return []
        found = []
        cpus = os.cpu_count() or 1
        for s in self.subjects.values():
            name = s.instance.name
            if s.instance.cpus and s.instance.cpus[-1] >= cpus:
                found.append(f"{name}: cpus: {list(s.instance.cpus)}: this host has the CPUs 0 to {cpus - 1}")
            if s.config:
                found += [f"{name}: {s.config.path}: {sentence}" for sentence in s.config.unsuitable()]
                hidden = hidden_from_unit(s.config.files) if self.supervisor.name == "systemd" else []
                found += [f"{name}: {path}: the unit cannot see home directories; put it elsewhere" for path in hidden]
        return found

    def missing(self) -> list[str]:
        """What another task must have made first."""
        if not self._wants_processes:
            return []
        found = []
        if not shutil.which("openvpn", path=base.PATH):
            found.append("openvpn is not installed")
        for s in self.subjects.values():
            name = s.instance.name
            if not base.netns_exists(s.instance.netns):
                found.append(f"{name}: the network namespace {s.instance.netns!r} does not exist")
            if s.config is None:
                found.append(f"{name}: the configuration {s.instance.config} does not exist")
            with contextlib.suppress(KeyError):
                pwd.getpwnam(s.instance.user)
                grp.getgrnam(s.instance.group)
                continue
            found.append(f"{name}: the user {s.instance.user!r} or the group {s.instance.group!r} does not exist")
        return found

    @property
    def _wants_processes(self) -> bool:
        return self.desired.state in ("started", "restarted")

    def commands(self) -> list[str]:
        """The steps as an administrator would type them."""
        lines: list[str] = []
        for step in self.steps:
            s = self.subjects[step.instance.name] if step.instance else None
            lines += self.supervisor.commands(step, s.observed if s else Observed(), s.caps if s else [])
        return lines

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Do the steps. An instance that fails keeps its error; the others go on."""
        if not self._trials_pass():
            return
        processes = [step for step in self.steps if step.op in ("start", "restart", "stop")]
        others = [step for step in self.steps if step not in processes]
        absent = self.desired.state == "absent"  # then what an instance has goes after its process
        for step in () if absent else others:
            self._apply_one(step)
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            waiting = [pool.submit(self._apply_one, step) for step in processes]
            if self._wants_processes:
                moved = {step.instance.name for step in processes if step.instance}
                waiting += [pool.submit(self._verify, s) for name, s in self.subjects.items() if name not in moved]
        for future in waiting:
            future.result()
        for step in others if absent else ():
            self._apply_one(step)

    def _trials_pass(self) -> bool:
        """One configuration that fails stops everything: instances mostly share it, and nothing is touched yet."""
        tried = [s for s in self.subjects.values() if any(step.trial for step in s.steps)]
        with concurrent.futures.ThreadPoolExecutor(TRIALS_AT_ONCE) as pool:
            list(pool.map(self._try, tried))
        return not any(s.error for s in tried)

    def _try(self, s: Subject) -> None:
        if s.config is None:  # nothing to try: its absence was told before
            return
        try:
            run_trial(s.instance, s.config, s.caps, self.timeout)
        except TrialFailed as exc:
            s.fail(f"{exc}; the running instance was not touched", exc.lines)
        except (SupervisorError, OSError) as exc:
            s.fail(f"the new configuration could not be tried: {exc}; the running instance was not touched")

    def _apply_one(self, step: Step) -> None:
        s = self.subjects[step.instance.name] if step.instance else None
        if s is None:
            self.applied = True
            self.supervisor.apply(step, Observed(), [], self.timeout)
            return
        if s.error:  # a step before this one failed
            return
        since = time.time()
        s.applied = self.applied = True
        try:
            self.supervisor.apply(step, s.observed, s.caps, self.timeout)
            if step.op in ("start", "restart"):
                self._await(s, since)
            elif step.op in ("stop", "remove"):
                s.pid = 0
        except NotReady as exc:
            s.fail(str(exc), exc.lines)
        except (SupervisorError, OSError) as exc:
            s.fail(str(exc), self.supervisor.log(s.instance, since) if step.op in ("start", "restart") else [])
        if s.error and step.op == "start":  # what never ran does not go on half-started
            with contextlib.suppress(SupervisorError, OSError):
                stop = replace(step, op="stop")
                self.supervisor.apply(stop, replace(s.observed, pid=self.supervisor.pid(s.instance)), s.caps, 0)
        if s.error:
            s.pid = self.supervisor.pid(s.instance)

    def _await(self, s: Subject, since: float) -> None:
        """Wait for a process that was just started."""
        until = time.monotonic() + self.timeout
        s.pid = self.supervisor.pid(s.instance)
        base.write_record(s.instance, s.pid, s.digest)
        delay = 0.05
        while True:
            obstacle = self._obstacle(s, since)
            if not obstacle:
                return
            if time.monotonic() > until:
                raise NotReady(
                    f"not ready after {self.timeout:g} s: {obstacle}", self.supervisor.log(s.instance, since)
                )
            time.sleep(delay)
            delay = min(delay * 1.5, 0.5)

    def _obstacle(self, s: Subject, since: float) -> str:
        """What is still missing to be ready; "" if it is ready."""
        pid = self.supervisor.pid(s.instance)
        if not pid or pid != s.pid:
            raise NotReady("its process ended before it was ready", self.supervisor.log(s.instance, since))
        try:
            with Management(s.instance.management, 1.0) as management:
                if management.pid() != pid:
                    return "another process has its management socket"
                state = management.state()
        except Busy as exc:  # somebody watches it: the log has it, too
            if any(COMPLETED.search(line) for line in self.supervisor.log(s.instance, since)):
                return ""
            return str(exc)
        except ManagementError as exc:
            return str(exc)
        if state.ready:
            return ""
        if state.name == "CONNECTED":
            raise NotReady(f"its state is CONNECTED,{state.detail}", self.supervisor.log(s.instance, since))
        return f"its state is {state.name},{state.detail}"

    def _verify(self, s: Subject) -> None:
        """An instance that needs no step must be ready, too. It is not touched, whatever comes out."""
        if base.read_record(s.instance).get("pid") != s.pid:
            base.write_record(s.instance, s.pid, s.digest)
        until = time.monotonic() + self.timeout
        busy = 0
        obstacle = ""
        while time.monotonic() < until:
            try:
                with Management(s.instance.management, 1.0) as management:
                    state = management.state()
                if state.ready:
                    return
                obstacle = f"its state is {state.name},{state.detail}"
            except Busy as exc:
                obstacle = str(exc)
                busy += 1
                if busy >= BUSY_ATTEMPTS and _is_fresh(s.instance.status_file):
                    self.warn(f"{s.instance.name}: {exc}; its status file is fresh, so it is taken as ready")
                    return
            except ManagementError as exc:
                obstacle = str(exc)
                if not self.supervisor.pid(s.instance):
                    break
            time.sleep(0.2)
        s.fail(f"running, but not ready: {obstacle}", self.supervisor.log(s.instance, 0))

    # --- report -------------------------------------------------------------------------------------------------------

    def report(self, *, predicted: bool) -> list[dict[str, t.Any]]:
        """A result for each instance; C(predicted) in check mode."""
        results = []
        for s in self.subjects.values():
            done = s.steps if predicted or s.applied else []
            result = {
                "name": s.instance.name,
                "actions": [PAST[step.op] for step in done],
                "reason": next((step.reason for step in done if step.reason), ""),
                "pid": s.pid,
            }
            results.append({**result, "error": s.error} if s.error else result)
        return results

    @property
    def errors(self) -> list[str]:
        return [s.error for s in self.subjects.values() if s.error]


def _is_fresh(path: str) -> bool:
    with contextlib.suppress(OSError):
        return time.time() - os.stat(path).st_mtime < 3 * STATUS_INTERVAL
    return False
