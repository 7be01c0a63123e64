# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From the desired and the observed state of instances to the actions in between. Pure."""

from __future__ import annotations

import typing as t
from dataclasses import dataclass

from .instance import Instance


@dataclass(frozen=True)
class Desired:
    """The desired state of all instances of one task. C(enabled) None: derived from C(state)."""

    state: str = "started"
    enabled: bool | None = None

    @property
    def running(self) -> bool:
        """Whether the instances should run."""
        return self.state in ("started", "restarted")


@dataclass(frozen=True)
class Observed:
    """The observed state of one instance."""

    pid: int = 0  # 0: no process
    active: bool = False  # systemd: also while it waits for the next attempt to start
    in_netns: bool = True
    current: bool = True  # the process was started with the present files
    enabled: bool = False
    files: tuple[str, ...] = ()  # existing files that the supervisor created for the instance
    drop_in: str | None = None
    needs_reload: bool = False
    repin: bool = False  # the process was started for other CPUs
    only_cpus: bool = False  # the drop-in differs from the desired one in the CPUs alone


@dataclass(frozen=True)
class Action:
    """One change. C(instance) is None for daemon-reload, which concerns all instances."""

    op: str  # write, reload, enable, disable, start, restart, stop, remove, pin
    instance: Instance | None = None
    reason: str = ""
    trial: bool = False  # restart: only after the changed configuration has passed a trial
    drops: int | None = None  # restart, stop: clients that lose their connection; None if the number is unknown

    @property
    def target(self) -> Instance:
        """The instance of an action that has one. Raises ValueError for daemon-reload."""
        if self.instance is None:
            raise ValueError(f"{self.op} concerns all instances")
        return self.instance


def plan(desired: Desired, instances: t.Sequence[tuple[Instance, Observed, str | None]]) -> list[Action]:
    """The actions for all instances: units first, then one daemon-reload, then the processes.

    C(instances): each with its observed state and the desired text of its drop-in (None without systemd).
    """
    units: list[Action] = []
    enablement: list[Action] = []
    processes: list[Action] = []
    removals: list[Action] = []
    reload_needed = any(observed.needs_reload for _instance, observed, _drop_in in instances)
    for instance, observed, drop_in in instances:
        write = _keeps_unit(desired) and drop_in is not None and drop_in != observed.drop_in
        if write:
            units.append(Action("write", instance))
        if drop_in is not None:
            enablement += _enablement(desired, instance, observed)
        processes += _process(desired, instance, observed, unit_changed=write and not observed.only_cpus)
        if desired.state == "absent" and observed.files:
            removals.append(Action("remove", instance))
            reload_needed = reload_needed or observed.drop_in is not None
    reload = [Action("reload")] if units or reload_needed else []
    if desired.state == "absent":
        return [*processes, *enablement, *removals, *reload]
    return [*units, *reload, *enablement, *processes]


def _keeps_unit(desired: Desired) -> bool:
    return desired.running or (desired.state == "stopped" and desired.enabled is True)


def _enablement(desired: Desired, instance: Instance, observed: Observed) -> list[Action]:
    enabled = desired.enabled
    if enabled is None and desired.state != "stopped":
        enabled = True
    if desired.state == "absent":
        enabled = False
    if enabled is None or enabled == observed.enabled:
        return []
    return [Action("enable" if enabled else "disable", instance)]


def _process(desired: Desired, instance: Instance, observed: Observed, *, unit_changed: bool) -> list[Action]:
    if desired.state in ("stopped", "absent"):
        return [Action("stop", instance, f"state is {desired.state}")] if observed.active else []
    if not observed.active:
        return [Action("start", instance, "not running")]
    stale = unit_changed or not observed.current
    if not observed.pid:
        reason = "its process died"
    elif not observed.in_netns:
        reason = "its process runs in another network namespace than the present one of that name"
    elif stale:
        reason = "its configuration has changed since the process started"
    elif desired.state == "restarted":
        reason = "state is restarted"
    else:
        return [Action("pin", instance, "its CPUs have changed")] if observed.repin else []
    # without a process, a failed start interrupts nobody
    return [Action("restart", instance, reason, trial=stale and bool(observed.pid))]


def describe_drops(drops: int | None) -> str:
    """How many clients an action disconnects, in words."""
    if drops is None:
        return "drops its clients (number unknown)"
    return f"drops {drops or 'no'} client{'' if drops == 1 else 's'}"
