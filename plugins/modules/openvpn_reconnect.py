#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: openvpn_reconnect
short_description: Lets clients connect anew whose bucket has moved to another member
version_added: 0.1.0
description:
  - After a bucket was moved, the packets of its clients reach the new owner, which does not know them. By themselves
    they notice
    when their C(ping-restart) is over. This module asks the servers for their clients, and has those told to connect
    anew that
    hash to a bucket of somebody else. They are back within a second or two.
  - Clients whose bucket stayed are left alone, so it may run at any time.
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
        description: The buckets that its member owns.
        type: list
        elements: int
        required: true
      port:
        description: The port of the service, for O(hashmode=sourceip-sourceport-destport).
        type: int
        default: 0
      management:
        description: Path of the management socket. C(/run/clustered-openvpn/NAME/management.sock) when left out.
        type: path
  total_nodes:
    description: The number of buckets.
    type: int
    default: 256
  hash_init:
    description: The seed of the hash.
    type: int
    default: 0
  hashmode:
    description: What is hashed.
    type: str
    choices: [sourceip, sourceip-sourceport, sourceip-sourceport-destport]
    default: sourceip
  hash_as:
    description: The engine whose hash decides, as O(clustered.openvpn.clusterip#module:hash_as).
    type: str
    choices: [nftables, xt_cluster, clusterip]
    default: nftables
attributes:
  check_mode:
    support: full
    description: Says who would be told.
  diff_mode:
    support: full
    description: The diff is the list of commands on the management sockets.
  platform:
    support: full
    platforms: posix
    description: Linux.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.clusterip
"""

EXAMPLES = r"""
- name: Clients of moved buckets connect anew
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
  description: The common names of the clients that were told, by instance.
  type: dict
  returned: success
  sample:
    vpn1-udp: [alice]
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils._cluster.reconnect import Hashing, tell
from ..module_utils._kernel.steps import prepared_diff
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


def tell_clients(module: AnsibleModule, instance: dict) -> dict:
    """The clients of one instance that do not belong there: client id -> common name. They are told."""
    path = instance["management"] or f"/run/clustered-openvpn/{instance['name']}/management.sock"
    hashing = Hashing(**{key: module.params[key] for key in ("total_nodes", "hash_init", "hashmode", "hash_as")})
    try:
        return tell(path, instance["port"], instance["local_nodes"], hashing, dry=module.check_mode)
    except ManagementError as exc:
        # Nothing is lost: they notice by themselves, later. In check mode the server may not have been made yet.
        if not (module.check_mode and isinstance(exc, NotListening)):
            module.warn(f"{instance['name']}: its clients could not be asked for: {exc}")
    return {}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    if module.params["total_nodes"] < 1:
        module.fail_json(msg=f"total_nodes: {module.params['total_nodes']}: there is one bucket at least")
    told = {instance["name"]: tell_clients(module, instance) for instance in module.params["instances"]}
    lines = [f"{name}: client-kill {cid} RESTART   # {who}" for name, ids in told.items() for cid, who in ids.items()]
    module.exit_json(
        changed=bool(lines),
        clients={name: sorted(ids.values()) for name, ids in told.items() if ids},
        diff=prepared_diff(lines),
    )


if __name__ == "__main__":
    main()
