# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Options with which a process starts and serves nobody, or which have no effect. Pure.

OpenVPN accepts all of them: scripts that it may not run, options that the command line of the supervisor overrides,
options that contradict the layout of a cluster.
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

from . import config as _config
from .config import SCRIPT_DIRECTIVES, UNSUITABLE, Config, Directive

CLUSTER_INSTANCES = "netns_cluster_instances"
MAX_NAMED = 5  # files or instances in one message

# Options that the supervisor sets on the command line, or whose effect it would miss: option -> reason.
OVERRIDDEN = {
    "cd": "the process starts in the directory of its configuration",
    "log": "the log is the journal, or a file in /var/log/clustered-openvpn",
    "log-append": "the log is the journal, or a file in /var/log/clustered-openvpn",
    "management": "the management socket is /run/clustered-openvpn/NAME/management.sock",
    "status": "the status file is /run/clustered-openvpn/NAME/status",
    "status-version": "the status file has version 2",
    "writepid": "the supervisor has the pid",
}
# Options of a server that a key of its instance sets: option -> key.
OF_INSTANCE = {
    "dev": "device",
    "ifconfig": "network",
    "ifconfig-ipv6": "network_ipv6",
    "ifconfig-ipv6-pool": "network_ipv6",
    "ifconfig-ipv6-push": "network_ipv6",
    "ifconfig-pool": "network",
    "ifconfig-push": "network",
    "local": "local",
    "lport": "port",
    "port": "port",
    "proto": "protocol",
    "server": "network",
    "server-bridge": "network",
    "server-ipv6": "network_ipv6",
}
ALSO_BY = {"local": "dual_stack"}  # key -> another one that sets the same
ADDRESSES = {"ifconfig-push": "network", "ifconfig-ipv6-push": "network_ipv6"}  # of a single client -> key


def refused(parameter: str, lines: t.Iterable[str], instance: t.Mapping[str, t.Any] | None = None) -> list[str]:
    """Errors for options in a variable of the user. C(instance): the server that they belong to."""
    found = []
    for words in _config.parse("\n".join(map(str, lines))):
        reason = _reason(words[0], instance or {})
        if reason:
            found.append(f"{parameter}: {' '.join(words)!r}: {reason}; remove the option")
    return found


def _reason(name: str, instance: t.Mapping[str, t.Any]) -> str:
    if name in UNSUITABLE or name in OVERRIDDEN:
        return UNSUITABLE.get(name) or OVERRIDDEN[name]
    if name.startswith("management-"):
        return "the supervisor uses the management socket"
    key = OF_INSTANCE.get(name, "")
    given = instance.get(key) or instance.get(ALSO_BY.get(key, ""))
    return f"it contradicts the {key} of the instance" if given else ""


def script_errors(directives: t.Iterable[Directive]) -> list[tuple[Directive, str]]:
    """Scripts that OpenVPN would not run, and so refuse clients or not start: the directive, and what it needs."""
    directives = list(directives)
    level = 1
    for words in directives:
        if words[0] == "script-security" and words[1:2] and words[1].isdigit():
            level = int(words[1])
    found = []
    for words in directives:
        if words[0] not in SCRIPT_DIRECTIVES or len(words) < 2:
            continue
        # OpenVPN passes no password in the environment below level 3.
        needed = 3 if words[0] == "auth-user-pass-verify" and words[2:3] == ("via-env",) else 2
        if level < needed:
            found.append((words, f"OpenVPN runs this script only with 'script-security {needed}'; add that option"))
    return found


def extra_options_errors(
    parameter: str, shared: t.Iterable[str], instances: t.Sequence[t.Mapping[str, t.Any]], of_instances: str
) -> list[str]:
    """Errors for extra options: C(shared) of the variable C(parameter), and C(extra_options) of each instance.

    of_instances: the variable of the instances. An instance of a cluster has the name MEMBER-NAME.
    """
    shared = list(map(str, shared))
    common = list(_config.parse("\n".join(shared)))
    found = []
    for instance in instances or [{}]:
        name = str(instance.get("name", ""))
        name = name.rpartition("-")[2] if of_instances == CLUSTER_INSTANCES else name
        where = f"{of_instances}[{name}].extra_options"
        own = list(map(str, instance.get("extra_options") or []))
        found += refused(parameter, shared, instance) + refused(where, own, instance)
        mine = list(_config.parse("\n".join(own)))
        for words, reason in script_errors([*common, *mine]):
            found.append(f"{where if words in mine else parameter}: {' '.join(words)!r}: {reason}")
    return list(dict.fromkeys(found))  # what is shared is found for each instance


def overridden(config: Config) -> list[str]:
    """Warnings for directives of a configuration that the supervisor overrides."""
    names = dict.fromkeys(words[0] for words in config.directives if words[0] in OVERRIDDEN)
    return [f"{name!r} in the configuration: {OVERRIDDEN[name]}; remove the directive" for name in names]


def blocked_scripts(config: Config) -> list[str]:
    """Errors for scripts of a configuration that OpenVPN would not run."""
    return [f"{' '.join(words)!r} in the configuration: {reason}" for words, reason in script_errors(config.directives)]


def client_addresses(listing: str, instances: t.Sequence[t.Mapping[str, t.Any]]) -> tuple[list[str], list[str]]:
    """Fixed addresses of clients that their server has no route to: errors (no server has), warnings (some have none).

    C(listing): lines C(FILE:OPTION ARGUMENT …), as C(grep -H) prints them for the directory of client files.
    """
    errors, warnings = [], []
    for line in listing.splitlines():
        path, _colon, option = line.partition(":")
        words = _config.split(option)
        key = ADDRESSES.get(words[0].removeprefix("--")) if len(words) > 1 else None
        networks = [(i["name"], i[key]) for i in instances if key and i.get(key)]
        if not key or not networks:
            continue
        address = words[1].partition("/")[0]
        outside = [name for name, network in networks if not _within(address, network)]
        if len(outside) == len(networks):
            every = ", ".join(dict.fromkeys(network for _name, network in networks[:MAX_NAMED]))
            errors.append(f"{path}: {' '.join(words)!r} is outside of {every}; use an address of the server's {key}")
        elif outside:
            where = f"is outside of the {key} of {_some(outside)}"
            warnings.append(f"{path}: {' '.join(words)!r} {where}; there, no packets reach the client")
    return errors, warnings


def _some(names: t.Sequence[str]) -> str:
    rest = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def _within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(re.sub(r"\s", "", address)) in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
