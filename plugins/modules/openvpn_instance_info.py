#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_instance_info
short_description: Get the state and the clients of OpenVPN processes
version_added: 0.1.0
description:
  - Returns the state and the connected clients of the instances managed by M(clustered.openvpn.openvpn_instance).
  - A management socket serves one connection at a time, so the module connects only briefly. If another program is
    connected, the module retries a few times, and then reports the busy socket in C(message).
options:
  instances:
    description:
      - Names of instances. An instance that does not exist on the host has the state V(absent).
      - If omitted, all instances of the host.
    type: list
    elements: str
  supervisor:
    description: Supervisor of the processes. V(auto) is V(systemd) on hosts with systemd, V(process) on others.
    type: str
    choices: [auto, systemd, process]
    default: auto
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    support: full
    platforms: posix
    description: Requires Linux and root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: Get the state of all instances
  clustered.openvpn.openvpn_instance_info:
  register: openvpn

- name: Show the connected clients
  ansible.builtin.debug:
    msg: "{{ openvpn.instances | map(attribute='clients') | flatten | map(attribute='common_name') }}"

- name: Fail unless an instance is ready
  clustered.openvpn.openvpn_instance_info:
    instances: [vpn1-udp]
  register: openvpn
  failed_when: not openvpn.instances[0].ready
"""

RETURN = r"""
instances:
  description: The instances, in the order of O(instances), or sorted by name.
  type: list
  elements: dict
  returned: success
  contains:
    name:
      description: Name of the instance.
      type: str
      returned: always
    state:
      description:
        - V(running), V(stopped), or V(absent) if the instance does not exist on the host.
        - V(restarting) if systemd is about to start the process again.
      type: str
      returned: always
    ready:
      description: Whether the management socket reports C(CONNECTED,SUCCESS).
      type: bool
      returned: always
    connection:
      description: State reported by the management socket, or empty if it did not answer.
      type: str
      returned: always
      sample: CONNECTED,SUCCESS
    message:
      description: Why the management socket did not answer, or empty if it did.
      type: str
      returned: always
    pid:
      description: Process ID, or 0 if no process runs.
      type: int
      returned: always
    uptime:
      description: Time since the process started, in seconds.
      type: int
      returned: always
    version:
      description: Version of the running OpenVPN process.
      type: str
      returned: always
      sample: 2.6.14
    role:
      description: Role of the instance, V(server) or V(client).
      type: str
      returned: when the instance exists
    netns:
      description: Configured network namespace, or empty for the host's own.
      type: str
      returned: when the instance exists
    netns_ok:
      description: Whether the process runs in the present network namespace of that name.
      type: bool
      returned: when the instance exists
    enabled:
      description: Whether the instance is started at boot.
      type: bool
      returned: when the instance exists
    config:
      description: Path of the configuration.
      type: str
      returned: when the instance exists
    management:
      description: Path of the management socket.
      type: str
      returned: when the instance exists
    status_file:
      description: Path of the status file.
      type: str
      returned: when the instance exists
    virtual_address:
      description: IPv4 address of the instance in the VPN.
      type: str
      returned: when the instance exists
    virtual_address6:
      description: IPv6 address of the instance in the VPN.
      type: str
      returned: when the instance exists
    remote_address:
      description: Address and port of the server to which a client is connected.
      type: str
      returned: when the instance exists
    counters:
      description: Byte counters of a client, under the names that OpenVPN gives them.
      type: dict
      returned: when the instance exists
      sample: {"TCP/UDP read bytes": 3508}
    clients:
      description: Clients connected to a server.
      type: list
      elements: dict
      returned: always
      contains:
        common_name:
          description: Common name in the client's certificate.
          type: str
          returned: always
        real_address:
          description: Source address and port of the client's packets.
          type: str
          returned: always
        virtual_address:
          description: IPv4 address of the client in the VPN.
          type: str
          returned: always
        virtual_address6:
          description: IPv6 address of the client in the VPN.
          type: str
          returned: always
        bytes_received:
          description: Bytes received from the client.
          type: int
          returned: always
        bytes_sent:
          description: Bytes sent to the client.
          type: int
          returned: always
        connected_since:
          description: Time of the connect, in seconds since 1970-01-01.
          type: int
          returned: always
        cid:
          description: Client ID on the management socket.
          type: int
          returned: always
        peer_id:
          description: Peer ID in the client's data packets.
          type: int
          returned: always
        cipher:
          description: Cipher of the client's data channel.
          type: str
          returned: always
supervisor:
  description: Supervisor of the processes, V(systemd) or V(process).
  type: str
  returned: success
"""

import os
import time
import typing as t
from dataclasses import asdict

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._kernel.command import CommandError
from ..module_utils._openvpn import processes
from ..module_utils._openvpn.instance import Instance
from ..module_utils._openvpn.lifecycle import choose_supervisor
from ..module_utils._openvpn.management import Management, ManagementError, ask
from ..module_utils._openvpn.plan import Observed

ARGUMENT_SPEC = {
    "instances": {"type": "list", "elements": "str"},
    "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
}
ABSENT: dict[str, t.Any] = {
    "ready": False,
    "connection": "",
    "message": "",
    "pid": 0,
    "uptime": 0,
    "version": "",
    "clients": [],
}


def describe(instance: Instance, observed: Observed) -> dict[str, t.Any]:
    """The result of one instance."""
    running = "running" if observed.pid else "restarting" if observed.active else "stopped"
    uptime = int(time.time() - processes.started_at(observed.pid)) if observed.pid else 0
    result = {
        **ABSENT,
        "name": instance.name,
        "state": running,
        "role": instance.role,
        "netns": instance.netns,
        "netns_ok": observed.in_netns,
        "enabled": observed.enabled,
        "config": instance.config,
        "management": instance.management,
        "status_file": instance.status_file,
        "pid": observed.pid,
        "uptime": uptime,
        "virtual_address": "",
        "virtual_address6": "",
        "remote_address": "",
        "counters": {},
    }
    return {**result, **_management(instance)} if observed.pid else result


def _management(instance: Instance) -> dict[str, t.Any]:
    """The part of the result that comes from the management socket."""

    def question(management: Management) -> dict[str, t.Any]:
        state, status = management.state(), management.status()
        return {
            "ready": state.ready,
            "connection": f"{state.name},{state.detail}",
            "version": management.version(),
            "virtual_address": state.virtual_address,
            "virtual_address6": state.virtual_address6,
            "remote_address": state.remote_address,
            "counters": dict(status.counters),
            "clients": [asdict(client) for client in status.clients],
        }

    try:
        return ask(instance.management, question)
    except ManagementError as exc:
        return {"message": str(exc)}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if os.geteuid() != 0:
        module.fail_json(msg="this module connects to sockets of other users and must run as root: use 'become: true'")
    supervisor = choose_supervisor(module.params["supervisor"])
    managed = {instance.name: instance for instance in supervisor.instances()}
    names = module.params["instances"]
    if names is None:
        names = sorted(managed)
    try:
        observed = supervisor.observe([managed[name] for name in names if name in managed])
    except CommandError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=False,
        supervisor=supervisor.name,
        instances=[
            describe(managed[name], observed[name]) if name in managed else {**ABSENT, "name": name, "state": "absent"}
            for name in names
        ],
    )


if __name__ == "__main__":
    main()
