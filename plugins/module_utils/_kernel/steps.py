# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Steps: the changes that a plan consists of.

A step is data: an operation, the network namespace, and arguments. C(Step.text) is the equivalent shell command, and
C(changes.py) carries it out. Nothing in this file or in the planners accesses the kernel.
"""

from __future__ import annotations

import shlex
import typing as t
from dataclasses import dataclass, field

# op -> the command with {arguments}; a part in [] is left out if one of its arguments is None
_COMMANDS: dict[str, str] = {
    "netns_add": "ip netns add {name}",
    "netns_del": "ip netns del {name}",
    "link_up": "ip link set dev {dev} up",
    "link_down": "ip link set dev {dev} down",
    "link_mac": "ip link set dev {dev} address {mac}",
    "link_mtu": "ip link set dev {dev} mtu {mtu}",
    "link_master": "ip link set dev {dev} master {master}",
    "link_nomaster": "ip link set dev {dev} nomaster",
    "link_del": "ip link del dev {dev}",
    "veth_add": (
        "ip link add {dev}[ address {mac}][ mtu {mtu}] type veth"
        " peer name {peer}[ netns {peer_netns}][ address {peer_mac}][ mtu {peer_mtu}]"
    ),
    "bridge_add": "ip link add {dev}[ address {mac}][ mtu {mtu}] type bridge mcast_snooping {snooping}",
    "bridge_snooping": "ip link set dev {dev} type bridge mcast_snooping {snooping}",
    "port_set": "bridge link set dev {dev} flood {flood} learning {learning}",
    "port_suppress": "bridge link set dev {dev} neigh_suppress on",
    "addr_add": "ip addr add {address} dev {dev}",
    # nodad: other hosts have the address too. preferred_lft 0: never the source of new connections.
    "addr_add_shared": "ip addr add {address} dev {dev} nodad preferred_lft 0",
    "addr_del": "ip addr del {address} dev {dev}",
    "route_add": "ip route add {dst}[ via {via}] dev {dev}[ src {src}] proto {proto}",
    "route_replace": "ip route replace {dst}[ via {via}] dev {dev}[ src {src}] proto {proto}",
    "route_del": "ip route del {dst}[ via {via}] dev {dev} proto {proto}",
    "neigh_replace": "ip neigh replace {address} lladdr {lladdr} dev {dev} nud permanent",
    "neigh_del": "ip neigh del {address} dev {dev}",
    "proxy_add": "ip neigh add proxy {address} dev {dev}",
    "proxy_del": "ip neigh del proxy {address} dev {dev}",
    "maddr_add": "ip maddr add {mac} dev {dev}",
    "maddr_del": "ip maddr del {mac} dev {dev}",
    "fdb_replace": "bridge fdb replace {mac} dev {dev} master static",
    "fdb_del": "bridge fdb del {mac} dev {dev} master",
    "clusterip_node": "sh -c 'echo {change} >/proc/net/ipt_CLUSTERIP/{address}'",
    "file_remove": "rm {path}",
    "sysctl": "sysctl -w {key}={value}",
}


class KernelError(Exception):
    """A step failed, or pyroute2 is missing. The message has the step's command and the reason."""


@dataclass(frozen=True)
class Step:
    """One change. C(netns): the name of a namespace, or "" for the one that the module runs in."""

    op: str
    netns: str = ""
    args: t.Mapping[str, t.Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The step as a shell command."""
        if self.op == "nft":
            return _in_netns("nft -f - <<'EOF'\n" + "\n".join(self.args["lines"]) + "\nEOF", self.netns)
        if self.op == "iptables":
            command = f"{self.args['tool']}-restore --noflush <<'EOF'\n"
            return _in_netns(command + "\n".join(self.args["lines"]) + "\nEOF", self.netns)
        if self.op == "file":
            command = f"install -D -m 0644 /dev/stdin {shlex.quote(self.args['path'])} <<'EOF'\n"
            return f"{command}{self.args['content'].rstrip()}\nEOF"
        if self.op == "command":
            return shlex.join(self.args["words"])
        if self.op in ("ip", "tc"):
            return _in_netns(f"{self.op} {shlex.join(self.args['words'])}", self.netns)
        return _in_netns(_fill(_COMMANDS[self.op], self.args), self.netns)


def step(op: str, netns: str = "", **args: t.Any) -> Step:
    """Short form: ``step("addr_add", "vpn1", dev="eth0", address="10.0.0.1/24")``."""
    return Step(op, netns, args)


def prepared_diff(commands: t.Iterable[str]) -> dict[str, str]:
    """Commands as a diff that Ansible prints: one per line."""
    return {"prepared": "".join(f"{command}\n" for command in commands)}


def _fill(template: str, args: t.Mapping[str, t.Any]) -> str:
    values = {k: shlex.quote(str(v)) for k, v in args.items() if v is not None}
    out = []
    for i, part in enumerate(template.replace("]", "[").split("[")):
        try:
            out.append(part.format(**values))
        except KeyError:
            if i % 2 == 0:  # not in brackets: the argument is required
                raise
    return "".join(out)


def _in_netns(command: str, netns: str) -> str:
    if not netns or command.startswith("ip netns "):
        return command
    name = shlex.quote(netns)
    tool, rest = command.split(" ", 1)
    if tool in ("ip", "bridge", "tc"):
        return f"{tool} -n {name} {rest}"
    return f"ip netns exec {name} {command}"


@dataclass
class Planned:
    """The result of a planner.

    missing: error texts for prerequisites that do not exist. result: return values that describe the state, and are
    updated after the steps; done: return values that describe the changes.
    """

    steps: list[Step]
    missing: list[str] = field(default_factory=list)
    result: dict[str, t.Any] = field(default_factory=dict)
    done: dict[str, t.Any] = field(default_factory=dict)
