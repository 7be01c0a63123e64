# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Instances: their parameters, and the names of their files and units. Pure."""

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
MANAGEMENT_SOCKET = "management.sock"  # in the run directory

# The name is used unescaped in paths and unit names.
_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_ACCOUNT = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?\Z")
MAX_CPUS = 8192  # the highest CONFIG_NR_CPUS
_SUN_PATH = 107  # longest path of a socket in bytes, linux/un.h

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
    """One OpenVPN process as configured. C(netns) "" is the host's own network namespace."""

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
        """The directory of the management socket, the status file and the pid file."""
        return f"{RUN}/{self.name}"

    @property
    def state_dir(self) -> str:
        """The directory of files that survive a reboot, such as the persistent pool."""
        return f"{STATE}/{self.name}"

    @property
    def record(self) -> str:
        """The record of the last start. Not in the run directory, which belongs to an unprivileged user."""
        return f"{RUN}/{self.name}.json"

    @property
    def log(self) -> str:
        """The log of a plain process."""
        return f"{LOG}/{self.name}.log"

    @property
    def pid_file(self) -> str:
        """The pid file of a plain process."""
        return f"{self.run_dir}/pid"

    @property
    def status_file(self) -> str:
        """The file that OpenVPN writes its status to."""
        return f"{self.run_dir}/status"

    @property
    def pool_file(self) -> str:
        """The persistent pool of the role openvpn_server (C(ifconfig-pool-persist))."""
        return f"{self.state_dir}/pool"

    @property
    def unit(self) -> str:
        """The systemd unit, without C(.service)."""
        return f"openvpn-{self.role}@{self.name}"


def config_directory(role: str) -> str:
    """The working directory of the distribution's units of a role (C(server), C(client))."""
    return f"/etc/openvpn/{role}"


def config_path(role: str, name: str) -> str:
    """The configuration that the distribution's unit of an instance reads."""
    return f"{config_directory(role)}/{name}.conf"


def management_socket(name: str) -> str:
    """The default path of an instance's management socket."""
    return f"{RUN}/{name}/{MANAGEMENT_SOCKET}"


def default_device(name: str) -> str:
    """The tun device of an instance of the roles openvpn_server and openvpn_client that names none."""
    return f"tun-{name}"


def instance_names(name: str, role: str = "server") -> dict[str, str]:
    """The names that belong to an instance, for roles and templates. C(role): server, client."""
    instance = Instance(name, role)
    return {
        "unit": instance.unit,
        "config": config_path(role, name),
        "device": default_device(name),
        "pool": instance.pool_file,
        "management": management_socket(name),
        "status": instance.status_file,
    }


# --- parameters -------------------------------------------------------------------------------------------------------


def instance_name(parameter: str, value: str) -> str:
    """Check the name of an instance. Raises ParameterError."""
    if not _NAME.match(value):
        raise ParameterError(parameter, value, "use at most 64 letters, digits, hyphens and underscores")
    return value


def account_name(parameter: str, value: str) -> str:
    """Check the name of a user or group. Raises ParameterError."""
    if not _ACCOUNT.match(value):
        raise ParameterError(parameter, value, "use the name of a user or group, such as openvpn")
    return value


def instances_from(items: t.Sequence[t.Mapping[str, t.Any]]) -> list[Instance]:
    """The instances of a module's parameter C(instances). Raises ParameterError."""
    instances = [_instance(f"instances[{i}]", item) for i, item in enumerate(items)]
    _params.unique("instances[].name", (i.name for i in instances))
    _params.unique("instances[].management", (i.management for i in instances))
    return instances


def _instance(where: str, item: t.Mapping[str, t.Any]) -> Instance:
    name, role = instance_name(f"{where}.name", item["name"]), item["role"]
    for key in ("user", "group"):
        account_name(f"{where}.{key}", item[key])
    config = item["config"] or config_path(role, name)
    management = item["management"] or management_socket(name)
    for key, path in (("config", config), ("management", management)):
        _params.text(f"{where}.{key}", path)
        if not os.path.isabs(path) or path.endswith("/"):
            raise ParameterError(f"{where}.{key}", path, "use the absolute path of a file")
    if len(management.encode()) > _SUN_PATH:
        raise ParameterError(
            f"{where}.management", management, f"use a path of at most {_SUN_PATH} bytes, the limit for sockets"
        )
    cpus = tuple(sorted(set(item["cpus"] or ())))
    if cpus and not 0 <= cpus[0] <= cpus[-1] < MAX_CPUS:
        raise ParameterError(f"{where}.cpus", list(cpus), "use the numbers of CPUs of the host, starting with 0")
    netns = _params.netns_name(f"{where}.netns", item["netns"], allow_empty=True)
    return Instance(name, role, netns, config, cpus, item["user"], item["group"], management)


def to_dict(instance: Instance) -> dict[str, t.Any]:
    """The instance as stored in its record and in the drop-in of its unit."""
    return asdict(instance)


def from_dict(data: t.Mapping[str, t.Any]) -> Instance:
    """The inverse of C(to_dict). Missing keys take their defaults, unknown ones are ignored."""
    values = {key: data[key] for key in INSTANCE_OPTIONS if key in data}
    return Instance(**{**values, "cpus": tuple(data.get("cpus", ()))})
