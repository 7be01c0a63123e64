# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instances: what the user asks for, what is observed, and the steps between the two. Pure."""

from __future__ import annotations

import os
import re
import typing as t
from dataclasses import asdict, dataclass

from .. import _params
from .._params import ParameterError

RUN = "/run/clustered-openvpn"
STATE = "/var/lib/clustered-openvpn"
LOG = "/var/log/clustered-openvpn"
OPENVPN = "/usr/sbin/openvpn"


# A unit's instance name goes into paths and unit names as it is, so it has nothing that either would escape.
_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_ACCOUNT = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")
MAX_CPUS = 8192  # what a kernel can be built for
_SUN_PATH = 107  # bytes of a socket's path, linux/un.h

INSTANCE_OPTIONS: dict[str, t.Any] = {
    "name": {"type": "str", "required": True},
    "role": {"type": "str", "choices": ["server", "client"], "default": "server"},
    "netns": {"type": "str"},
    "config": {"type": "path"},
    "cpus": {"type": "list", "elements": "int", "default": []},
    "user": {"type": "str", "default": "openvpn"},
    "group": {"type": "str", "default": "openvpn"},
    "management": {"type": "path"},
}


@dataclass(frozen=True)
class Instance:
    """One OpenVPN process as it ought to be. C(netns) is "" for the host's own namespace."""

    name: str
    role: str = "server"
    netns: str = ""
    config: str = ""
    cpus: tuple[int, ...] = ()
    user: str = "openvpn"
    group: str = "openvpn"
    management: str = ""

    @property
    def run_dir(self) -> str:
        return f"{RUN}/{self.name}"

    @property
    def state_dir(self) -> str:
        return f"{STATE}/{self.name}"

    @property
    def record(self) -> str:
        """What it was started with. Beside the run directory, which belongs to an unprivileged user."""
        return f"{RUN}/{self.name}.json"

    @property
    def log(self) -> str:
        return f"{LOG}/{self.name}.log"

    @property
    def pid_file(self) -> str:
        return f"{self.run_dir}/pid"

    @property
    def status_file(self) -> str:
        return f"{self.run_dir}/status"

    @property
    def unit(self) -> str:
        return f"openvpn-{self.role}@{self.name}"


@dataclass(frozen=True)
class Observed:
    """One instance as it is."""

    pid: int = 0  # 0: no process
    active: bool = False  # systemd: also while it waits for its next attempt
    in_netns: bool = True
    current: bool = True  # started from the files as they are now
    enabled: bool = False
    files: tuple[str, ...] = ()  # what the supervisor keeps for it, as far as it exists
    drop_in: str | None = None
    needs_reload: bool = False


@dataclass(frozen=True)
class Desired:
    """What is asked for all instances of one task."""

    state: str = "started"
    enabled: bool | None = None


@dataclass(frozen=True)
class Step:
    """One change. C(instance) is None for daemon-reload, which is for all of them."""

    op: str  # write, reload, enable, disable, start, restart, stop, remove
    instance: Instance | None = None
    reason: str = ""
    trial: bool = False  # restart: only if the changed configuration has passed a trial
    drops: int | None = None  # restart, stop: clients of the process that ends; None if that is not known

    @property
    def whose(self) -> Instance:
        """The instance, for the steps that have one."""
        if self.instance is None:
            raise ValueError(f"{self.op} is for all instances")
        return self.instance


def plan(desired: Desired, instances: t.Sequence[tuple[Instance, Observed, str | None]]) -> list[Step]:
    """The steps for all instances: units first, then one daemon-reload, then the processes.

    C(instances): what each ought to be, what it is, and the drop-in that it ought to have (None: no systemd).
    """
    units: list[Step] = []
    later: list[Step] = []
    processes: list[Step] = []
    gone: list[Step] = []
    reload_needed = any(observed.needs_reload for _i, observed, _d in instances)
    for instance, observed, drop_in in instances:
        write = _keeps_unit(desired) and drop_in is not None and drop_in != observed.drop_in
        if write:
            units.append(Step("write", instance))
        if drop_in is not None:
            later += _enablement(desired, instance, observed)
        processes += _process(desired, instance, observed, unit_changed=write)
        if desired.state == "absent" and observed.files:
            gone.append(Step("remove", instance))
            reload_needed = reload_needed or observed.drop_in is not None
    reload_step = [Step("reload")] if units or reload_needed else []
    if desired.state == "absent":
        return [*processes, *later, *gone, *reload_step]
    return [*units, *reload_step, *later, *processes]


def _keeps_unit(desired: Desired) -> bool:
    return desired.state in ("started", "restarted") or (desired.state == "stopped" and desired.enabled is True)


def _enablement(desired: Desired, instance: Instance, observed: Observed) -> list[Step]:
    wanted = desired.enabled
    if wanted is None and desired.state != "stopped":
        wanted = True
    if desired.state == "absent":
        wanted = False
    if wanted is None or wanted == observed.enabled:
        return []
    return [Step("enable" if wanted else "disable", instance)]


def _process(desired: Desired, instance: Instance, observed: Observed, *, unit_changed: bool) -> list[Step]:
    if desired.state in ("stopped", "absent"):
        return [Step("stop", instance, f"state is {desired.state}")] if observed.active else []
    if not observed.active:
        return [Step("start", instance, "not running")]
    stale = unit_changed or not observed.current
    if not observed.pid:
        reason = "its process died"
    elif not observed.in_netns:
        reason = "its process is not in the network namespace that has the name now"
    elif stale:
        reason = "the configuration is not the one it was started with"
    elif desired.state == "restarted":
        reason = "state is restarted"
    else:
        return []
    # a process that is dead anyway loses nothing by a failing start
    return [Step("restart", instance, reason, trial=stale and bool(observed.pid))]


def dropping(drops: int | None) -> str:
    """How many clients a step disconnects, in words."""
    if drops is None:
        return "drops its clients, whose number is not known"
    return f"drops {drops or 'no'} client{'' if drops == 1 else 's'}"


# --- the command line -------------------------------------------------------------------------------------------------


# --- parameters -------------------------------------------------------------------------------------------------------


def instance_name(parameter: str, value: str) -> str:
    """What a unit and its files can be called."""
    if not _NAME.match(value):
        raise ParameterError(parameter, value, "use at most 64 letters, digits, hyphens and underscores")
    return value


def account_name(parameter: str, value: str) -> str:
    """What a user or a group can be called."""
    if not _ACCOUNT.match(value):
        raise ParameterError(parameter, value, "give the name of an account")
    return value


def instances_from(items: t.Sequence[t.Mapping[str, t.Any]]) -> list[Instance]:
    """Parameters -> instances, all of them checked before anything is touched."""
    instances = [_instance(f"instances[{i}]", item) for i, item in enumerate(items)]
    _params.unique("instances[].name", (i.name for i in instances))
    _params.unique("instances[].management", (i.management for i in instances))
    return instances


def _instance(where: str, item: t.Mapping[str, t.Any]) -> Instance:
    name, role = instance_name(f"{where}.name", item["name"]), item["role"]
    for key in ("user", "group"):
        account_name(f"{where}.{key}", item[key])
    config = item["config"] or f"/etc/openvpn/{role}/{name}.conf"
    management = item["management"] or f"{RUN}/{name}/management.sock"
    for key, path in (("config", config), ("management", management)):
        _params.text(f"{where}.{key}", path)
        if not os.path.isabs(path) or path.endswith("/"):
            raise ParameterError(f"{where}.{key}", path, "give an absolute path of a file")
    if len(management.encode()) > _SUN_PATH:
        raise ParameterError(f"{where}.management", management, f"the path of a socket has at most {_SUN_PATH} bytes")
    cpus = tuple(sorted(set(item["cpus"] or ())))
    if cpus and not 0 <= cpus[0] <= cpus[-1] < MAX_CPUS:
        raise ParameterError(f"{where}.cpus", list(cpus), "give the numbers of CPUs of the host, from 0")
    netns = _params.netns_name(f"{where}.netns", item["netns"], allow_empty=True)
    return Instance(name, role, netns, config, cpus, item["user"], item["group"], management)


def to_dict(instance: Instance) -> dict[str, t.Any]:
    return asdict(instance)


def from_dict(data: t.Mapping[str, t.Any]) -> Instance:
    """The inverse of C(to_dict), as far as C(data) goes."""
    known = {k: data[k] for k in INSTANCE_OPTIONS if k in data}
    return Instance(**{**known, "cpus": tuple(data.get("cpus", ()))})
