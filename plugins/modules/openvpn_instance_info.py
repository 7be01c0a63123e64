#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_instance_info
short_description: State and clients of OpenVPN processes
version_added: 0.1.0
description:
  - Tells what the processes made by M(clustered.openvpn.openvpn_instance) do, and who is connected to them.
  - The management socket serves one client at a time, so the module connects for a moment only. If somebody else has
    it, the module tries again a few times, and then says so in C(message).
options:
  instances:
    description:
      - Names of instances. One that is not known on the host is reported with the state V(absent).
      - Without it, every instance of the host.
    type: list
    elements: str
  supervisor:
    description: What keeps the processes. V(auto) is V(systemd) where systemd runs, V(process) elsewhere.
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
    description: Linux, as root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.openvpn_instance
"""

EXAMPLES = r"""
- name: Look at all instances
  clustered.openvpn.openvpn_instance_info:
  register: openvpn

- name: Show who is connected
  ansible.builtin.debug:
    msg: "{{ openvpn.instances | map(attribute='clients') | flatten | map(attribute='common_name') }}"

- name: Fail unless a member serves
  clustered.openvpn.openvpn_instance_info:
    instances: [vpn1-udp]
  register: openvpn
  failed_when: not openvpn.instances[0].ready
"""

RETURN = r"""
instances:
  description: The instances, in the order asked for, or sorted by name.
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
        - V(running), V(stopped), or V(absent) if the host does not know it.
        - V(restarting) if there is no process but systemd will try again.
      type: str
      returned: always
    ready:
      description: Whether the management socket says C(CONNECTED,SUCCESS).
      type: bool
      returned: always
    connection:
      description: The state on the management socket, empty if it could not be asked.
      type: str
      returned: always
      sample: CONNECTED,SUCCESS
    message:
      description: Why the management socket could not be asked, empty if it could.
      type: str
      returned: always
    pid:
      description: The process, 0 if there is none.
      type: int
      returned: always
    uptime:
      description: Seconds since the process started.
      type: int
      returned: always
    version:
      description: OpenVPN's version, of the process that runs.
      type: str
      returned: always
      sample: 2.6.14
    role:
      description: V(server) or V(client).
      type: str
      returned: when the host knows it
    netns:
      description: Network namespace that it ought to live in, empty for the host's own.
      type: str
      returned: when the host knows it
    netns_ok:
      description: Whether the process lives in the namespace that has the name now.
      type: bool
      returned: when the host knows it
    enabled:
      description: Whether it is started at boot.
      type: bool
      returned: when the host knows it
    config:
      description: Path of the configuration.
      type: str
      returned: when the host knows it
    management:
      description: Path of the management socket.
      type: str
      returned: when the host knows it
    status_file:
      description: Path of the status file.
      type: str
      returned: when the host knows it
    virtual_address:
      description: Its own address in the VPN.
      type: str
      returned: when the host knows it
    virtual_address6:
      description: Its own IPv6 address in the VPN.
      type: str
      returned: when the host knows it
    remote_address:
      description: Address and port of a client's server.
      type: str
      returned: when the host knows it
    counters:
      description: Byte counters of a client, by OpenVPN's names for them.
      type: dict
      returned: when the host knows it
      sample: {"TCP/UDP read bytes": 3508}
    clients:
      description: Who is connected to a server.
      type: list
      elements: dict
      returned: always
      contains:
        common_name:
          description: Common name of its certificate.
          type: str
          returned: always
        real_address:
          description: Address and port that it comes from.
          type: str
          returned: always
        virtual_address:
          description: Its address in the VPN.
          type: str
          returned: always
        virtual_address6:
          description: Its IPv6 address in the VPN.
          type: str
          returned: always
        bytes_received:
          description: Bytes from the client.
          type: int
          returned: always
        bytes_sent:
          description: Bytes to the client.
          type: int
          returned: always
        connected_since:
          description: Seconds since 1970-01-01.
          type: int
          returned: always
        cid:
          description: The client's number on the management socket.
          type: int
          returned: always
        peer_id:
          description: The number in its data packets.
          type: int
          returned: always
        cipher:
          description: Cipher of its data channel.
          type: str
          returned: always
supervisor:
  description: What keeps the processes, V(systemd) or V(process).
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
from ..module_utils._openvpn.instance import Instance, Observed
from ..module_utils._openvpn.lifecycle import choose_supervisor
from ..module_utils._openvpn.management import Management, ManagementError, ask

ARGUMENT_SPEC = {
    "instances": {"type": "list", "elements": "str"},
    "supervisor": {"type": "str", "choices": ["auto", "systemd", "process"], "default": "auto"},
}
NOTHING: dict[str, t.Any] = {
    "ready": False,
    "connection": "",
    "message": "",
    "pid": 0,
    "uptime": 0,
    "version": "",
    "clients": [],
}


def describe(instance: Instance, observed: Observed) -> dict[str, t.Any]:
    """Everything about one instance."""
    running = "running" if observed.pid else "restarting" if observed.active else "stopped"
    uptime = int(time.time() - processes.started_at(observed.pid)) if observed.pid else 0
    result = {
        **NOTHING,
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
    return {**result, **_asked(instance)} if observed.pid else result


def _asked(instance: Instance) -> dict[str, t.Any]:
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
        module.fail_json(msg="this module asks processes of other users and must run as root: use 'become: true'")
    supervisor = choose_supervisor(module.params["supervisor"])
    known = {instance.name: instance for instance in supervisor.known()}
    names = module.params["instances"]
    if names is None:
        names = sorted(known)
    try:
        observed = supervisor.observe([known[name] for name in names if name in known])
    except CommandError as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(
        changed=False,
        supervisor=supervisor.name,
        instances=[
            describe(known[name], observed[name]) if name in known else {**NOTHING, "name": name, "state": "absent"}
            for name in names
        ],
    )


if __name__ == "__main__":
    main()
