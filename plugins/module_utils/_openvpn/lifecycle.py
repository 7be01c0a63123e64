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
import time
import typing as t
from dataclasses import dataclass, field, replace

from .._kernel import namespaces
from . import preflight
from . import processes as _processes
from . import supervisor as _supervisor
from .command_line import capabilities
from .config import Config, Endpoint, read_config
from .instance import Desired, Instance, Observed, Step, dropping, plan
from .management import Busy, Management, ManagementError, State, ask
from .supervisor import Supervisor
from .supervisor_process import ProcessSupervisor
from .supervisor_systemd import SystemdSupervisor, hidden_from_unit
from .trial import COMPLETED, TrialFailed, remove_leftovers, run_trial

TRIALS_AT_ONCE = 8  # a trial is work for a CPU
STARTS_AT_ONCE = 64  # a start is mostly waiting
BUSY_ATTEMPTS = 3
# States of an end of a tunnel between two that has loaded everything and opened its socket.
WAITING = ("ASSIGN_IP", "WAIT", "AUTH", "RECONNECTING")
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

    @property
    def begins(self) -> bool:
        """Whether a process is to be started."""
        return any(step.op in ("start", "restart") for step in self.steps)

    def fail(self, reason: str, lines: t.Sequence[str] = ()) -> None:
        # OpenVPN logs every question on the management socket, ours too
        told = [line for line in lines if "MANAGEMENT: " not in line]
        last = "".join(f"\n  {line}" for line in told[-_supervisor.LOG_LINES :])
        self.error = f"{self.instance.name}: {reason}" + (f". The last lines of its log:{last}" if last else "")


def choose_supervisor(wanted: str) -> Supervisor:
    if wanted == "auto":
        wanted = "systemd" if _supervisor.has_systemd() else "process"
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
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            self.steps = list(pool.map(self._counted, self.steps))
        for step in self.steps:
            if step.instance:
                self.subjects[step.instance.name].steps.append(step)

    def _counted(self, step: Step) -> Step:
        """The step with the number of clients that it disconnects."""
        if step.op not in ("restart", "stop") or not self.subjects[step.whose.name].observed.pid:
            return step
        with contextlib.suppress(ManagementError):
            stats = ask(step.whose.management, lambda management: management.load_stats(), attempts=2)
            return replace(step, drops=stats.get("nclients"))
        return step

    def _is_current(self, instance: Instance, config: Config | None, seen: Observed, digest: str) -> bool:
        if config is None:  # check mode: the file is about to be made
            return False
        files = [*config.files, *(f for f in seen.files if f.endswith(".conf"))]
        return _supervisor.is_current(
            _supervisor.read_record(instance),
            seen.pid,
            _processes.start_ticks(seen.pid),
            digest,
            unchanged=_supervisor.newest_change(files) < _processes.started_at(seen.pid),
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
        return found + preflight.shared(self._endpoints(self.subjects.values()))

    def _endpoints(self, subjects: t.Iterable[Subject]) -> list[tuple[Instance, Endpoint]]:
        return [(s.instance, s.config.listens) for s in subjects if s.config and s.config.listens]

    def missing(self) -> list[str]:
        """What another task must have made first."""
        if not self._wants_processes:
            return []
        found = preflight.missing_programs()
        for s in self.subjects.values():
            i = s.instance
            if not namespaces.exists(i.netns):
                remedy = "make it first, with the module clustered.openvpn.netns"
                found.append(f"{i.name}: netns: the network namespace {i.netns!r} does not exist; {remedy}")
            if s.config is None:
                found.append(f"{i.name}: config: {i.config!r} does not exist, or is no file; write it first")
            for key, name, known in (("user", i.user, pwd.getpwnam), ("group", i.group, grp.getgrnam)):
                try:
                    known(name)
                except KeyError:
                    found.append(f"{i.name}: {key}: {name!r} does not exist on this host; make it, or name another")
        return found

    def unsound(self) -> dict[str, str]:
        """What would fail once a process is started, or serve nobody: a sentence by the instance's name."""
        if not self._wants_processes:
            return {}
        found = {}
        tried = [s for s in self.subjects.values() if s.begins and s.config]
        accounts = [(s.instance, s.config) for s in tried if s.config and _has_account(s.instance)]
        closed = preflight.unreadable(accounts)
        ending = {s.observed.pid for s in tried if s.observed.pid}
        held = preflight.taken(self._endpoints(tried), ending)
        keys = preflight.Keys()
        for s in self.subjects.values():
            if s.config is None:
                continue
            name = s.instance.name
            connects = s.config.has("client") or s.config.has("tls-client")
            verdict = keys.judge(s.config, "client" if connects else s.instance.role)
            # where nothing is to be done, clients may be shut out all the same
            for sentence in verdict.remarks + ([] if s.begins else verdict.refusals):
                self.warn(f"{name}: {sentence}")
            if not s.begins:
                continue
            reasons = list(verdict.refusals)
            if closed.get(name):
                who = f"the user {s.instance.user} with the group {s.instance.group}"
                reasons.append(f"{who} cannot read {', '.join(closed[name])}; change their owner or mode")
            if name in held:
                reasons.append(f"{s.instance.config}: {held[name]}")
            if reasons:
                found[name] = "; ".join(reasons)
        return found

    @property
    def _wants_processes(self) -> bool:
        return self.desired.state in ("started", "restarted")

    def commands(self) -> list[str]:
        """The steps as an administrator would type them."""
        lines: list[str] = []
        for step in self.steps:
            s = self.subjects[step.instance.name] if step.instance else None
            typed = self.supervisor.commands(step, s.observed if s else Observed(), s.caps if s else [])
            if s and typed and step.op in ("restart", "stop") and self._serves(s):
                typed[0] += f"  # {dropping(step.drops)}"
            lines += typed
        return lines

    def _serves(self, s: Subject) -> bool:
        """Whether a running process has clients."""
        return bool(s.observed.pid) and (s.config.serves_many if s.config else s.instance.role == "server")

    # --- apply --------------------------------------------------------------------------------------------------------

    def apply(self) -> None:
        """Do the steps. An instance that fails keeps its error; the others go on."""
        for subject in self.subjects.values():
            remove_leftovers(subject.instance)
        unsound = self.unsound()
        for name, reason in unsound.items():
            self.subjects[name].fail(f"{reason}; nothing was changed")
        if unsound or not self._trials_pass():
            return
        processes = [step for step in self.steps if step.op in ("start", "restart", "stop")]
        others = [step for step in self.steps if step not in processes]
        absent = self.desired.state == "absent"  # then what an instance has goes after its process
        for step in () if absent else others:
            self._apply_one(step)
        self._make_way(processes)
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            waiting = [pool.submit(self._apply_one, step) for step in processes]
            if self._wants_processes:
                moved = {step.instance.name for step in processes if step.instance}
                waiting += [pool.submit(self._verify, s) for name, s in self.subjects.items() if name not in moved]
        for future in waiting:
            future.result()
        for step in others if absent else ():
            self._apply_one(step)

    def _make_way(self, processes: t.Sequence[Step]) -> None:
        """Where instances exchange ports, all that are to be started anew end before the first begins."""
        begun = [self.subjects[step.whose.name] for step in processes if step.op in ("start", "restart")]
        if not preflight.taken(self._endpoints(begun), ()):
            return
        with concurrent.futures.ThreadPoolExecutor(STARTS_AT_ONCE) as pool:
            list(pool.map(self._apply_one, [Step("stop", s.instance) for s in begun if s.observed.pid]))

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
        except OSError as exc:
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
        except OSError as exc:
            s.fail(str(exc), self.supervisor.log(s.instance, since) if step.op in ("start", "restart") else [])
        if s.error and step.op == "start":  # what never ran does not go on half-started
            with contextlib.suppress(OSError):
                stop = replace(step, op="stop")
                self.supervisor.apply(stop, replace(s.observed, pid=self.supervisor.pid(s.instance)), s.caps, 0)
        if s.error:
            s.pid = self.supervisor.pid(s.instance)

    def _await(self, s: Subject, since: float) -> None:
        """Wait for a process that was just started."""
        until = time.monotonic() + self.timeout
        s.pid = self.supervisor.pid(s.instance)
        _supervisor.write_record(s.instance, s.pid, s.digest)
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
        if _is_ready(s, state):
            return ""
        if state.name == "CONNECTED":
            raise NotReady(f"its state is CONNECTED,{state.detail}", self.supervisor.log(s.instance, since))
        return f"its state is {state.name},{state.detail}"

    def _verify(self, s: Subject) -> None:
        """An instance that needs no step must be ready, too. It is not touched, whatever comes out."""
        if _supervisor.read_record(s.instance).get("pid") != s.pid:
            _supervisor.write_record(s.instance, s.pid, s.digest)
        until = time.monotonic() + self.timeout
        busy = 0
        obstacle = ""
        while time.monotonic() < until:
            try:
                with Management(s.instance.management, 1.0) as management:
                    state = management.state()
                if _is_ready(s, state):
                    return
                obstacle = f"its state is {state.name},{state.detail}"
            except Busy as exc:
                obstacle = str(exc)
                busy += 1
                if busy >= BUSY_ATTEMPTS and _supervisor.status_is_fresh(s.instance):
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
            ending = next((step for step in done if step.op in ("restart", "stop") and self._serves(s)), None)
            reason = next((step.reason for step in done if step.reason), "")
            result: dict[str, t.Any] = {
                "name": s.instance.name,
                "actions": [PAST[step.op] for step in done],
                "reason": f"{reason}; this {dropping(ending.drops)}" if ending else reason,
                "pid": s.pid,
            }
            if ending:
                result["dropped_clients"] = ending.drops
            if s.config and s.observed.pid and not s.steps:
                fresh = preflight.changed_since(s.config, _processes.started_at(s.observed.pid))
                result.update({"refreshed": fresh} if fresh else {})
            if s.error:
                result["error"] = s.error
            results.append(result)
        return results

    @property
    def errors(self) -> list[str]:
        return [s.error for s in self.subjects.values() if s.error]


def _is_ready(s: Subject, state: State) -> bool:
    """Connected; or, as an end of a tunnel between two, where it waits for the other end, or tries to reach it."""
    return state.ready or bool(s.config and s.config.point_to_point and state.name in WAITING)


def _has_account(instance: Instance) -> bool:
    with contextlib.suppress(KeyError):
        return bool(pwd.getpwnam(instance.user) and grp.getgrnam(instance.group))
    return False
