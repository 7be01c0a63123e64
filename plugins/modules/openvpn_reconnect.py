#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_reconnect
short_description: Reconnect the OpenVPN clients of moved buckets
version_added: 0.1.0
description:
  - After a bucket has moved to another member, the packets of its clients reach a server without a session for them.
    Clients detect this only when their C(ping-restart) expires. This module sends a RESTART to each client that hashes
    to a bucket of another member. These clients reconnect within one or two seconds.
  - Clients of buckets that have not moved keep their connection, so the module can run at any time.
options:
  instances:
    description: The servers of a cluster on this host.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the instance, as in M(clustered.openvpn.openvpn_instance).
        type: str
        required: true
      local_nodes:
        description: Buckets of the member to which the instance belongs.
        type: list
        elements: int
        required: true
      port:
        description: Port of the service. Used if O(hashmode=sourceip-sourceport-destport).
        type: int
        default: 0
      management:
        description: Path of the management socket. Defaults to C(/run/clustered-openvpn/NAME/management.sock).
        type: path
  total_nodes:
    description: Number of buckets.
    type: int
    default: 256
  hash_init:
    description: Seed of the hash.
    type: int
    default: 0
  hashmode:
    description: Parts of a packet that are hashed.
    type: str
    choices: [sourceip, sourceip-sourceport, sourceip-sourceport-destport]
    default: sourceip
  hash_as:
    description: Engine whose hash assigns clients to buckets, as O(clustered.openvpn.clusterip#module:hash_as).
    type: str
    choices: [nftables, xt_cluster, clusterip]
    default: nftables
attributes:
  check_mode:
    support: full
    description: Returns the clients that would be reconnected.
  diff_mode:
    support: full
    description: Shows the commands for the management sockets.
  platform:
    support: full
    platforms: posix
    description: Requires Linux.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.clusterip
"""

EXAMPLES = r"""
- name: Reconnect the clients of moved buckets
  clustered.openvpn.openvpn_reconnect:
    instances:
      - name: vpn1-udp
        local_nodes: [1, 2]
      - name: vpn2-udp
        local_nodes: [3, 4]
    total_nodes: 4
    hash_init: 0x1234
"""

RETURN = r"""
clients:
  description: Common names of the reconnected clients, by instance.
  type: dict
  returned: success
  sample:
    vpn1-udp: [alice]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cluster.reconnect import Hashing, send_restarts
from ..module_utils._openvpn.instance import management_socket
from ..module_utils._openvpn.management import ManagementError, NotListening

ARGUMENT_SPEC = {
    "instances": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "local_nodes": {"type": "list", "elements": "int", "required": True},
            "port": {"type": "int", "default": 0},
            "management": {"type": "path"},
        },
    },
    "total_nodes": {"type": "int", "default": 256},
    "hash_init": {"type": "int", "default": 0},
    "hashmode": {
        "type": "str",
        "choices": ["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"],
        "default": "sourceip",
    },
    "hash_as": {"type": "str", "choices": ["nftables", "xt_cluster", "clusterip"], "default": "nftables"},
}


def reconnect(module: AnsibleModule, instance: dict) -> dict:
    """Reconnect the misplaced clients of one instance: client id -> common name."""
    path = instance["management"] or management_socket(instance["name"])
    hashing = Hashing(**{key: module.params[key] for key in ("total_nodes", "hash_init", "hashmode", "hash_as")})
    try:
        return send_restarts(path, instance["port"], instance["local_nodes"], hashing, dry_run=module.check_mode)
    except ManagementError as exc:
        # Only a delay: the clients reconnect after their ping-restart. In check mode the server may not exist yet.
        if not (module.check_mode and isinstance(exc, NotListening)):
            module.warn(f"{instance['name']}: cannot list its clients: {exc}; they reconnect after their ping-restart")
    return {}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["total_nodes"] < 1:
        module.fail_json(msg=f"total_nodes: {module.params['total_nodes']}: use a number of buckets from 1 on")
    clients = {instance["name"]: reconnect(module, instance) for instance in module.params["instances"]}
    commands = [
        f"{name}: client-kill {cid} RESTART   # {common_name}"
        for name, found in clients.items()
        for cid, common_name in found.items()
    ]
    module.exit_json(
        changed=bool(commands),
        clients={name: sorted(found.values()) for name, found in clients.items() if found},
        diff={"prepared": "".join(f"{line}\n" for line in commands)},
    )


if __name__ == "__main__":
    main()
