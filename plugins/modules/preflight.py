#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Check that a cluster or a bundle fits the host
version_added: 0.2.0
description:
  - Looks at the host before the first change, and changes nothing. It runs in check mode, too.
  - Fails if something else on the host has a name that the cluster or bundle would use. These are bridges, network
    namespaces, interfaces and OpenVPN configurations.
  - Fails if the host has routes or routing rules, in any table, for the pools, the internal network or the service
    address of the cluster; if the NIC has no MAC address, or is a port of a bridge that receives its packets; or if a
    neighbour on the LAN has the service address, which is asked for by ARP and neighbour discovery.
  - A network or an address that the former state has already causes a warning instead.
  - Warns if a firewall of the host discards packets that members forward, and shows the rules to add. It looks at all
    chains of nftables and iptables at the hook forward.
  - Roles of this collection call it.
options:
  state:
    description: The desired state of the cluster or bundle, a result of P(clustered.openvpn.cluster_layout#filter).
    type: dict
    required: true
  previous:
    description: The former state, as it is on the host. Everything in it belongs to the cluster or bundle.
    type: dict
    default: {}
  pools:
    description: The instances of the cluster. Of each, C(name), C(pool) and C(pool_ipv6) are used.
    type: list
    elements: dict
    default: []
  adopt:
    description: Whether to take over names that something else has.
    type: bool
    default: false
  leaving:
    description: Whether the cluster or bundle is about to be removed. Only names are checked then.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: Changes nothing.
  diff_mode:
    support: none
    description: Changes nothing.
  platform:
    platforms: Linux
    support: full
    description: Linux. Requires root.
author:
  - clustered.openvpn contributors (@clustered-openvpn)
seealso:
  - module: clustered.openvpn.clusterip
"""

EXAMPLES = r"""
- name: Check that the cluster fits the host
  clustered.openvpn.preflight:
    state: "{{ netns_cluster_layout }}"
    pools: "{{ netns_cluster_instances }}"
"""

RETURN = r"""
errors:
  description: A sentence for each obstacle.
  type: list
  elements: str
  returned: failure
  sample:
    - "instances[udp].pool: '10.8.0.0/16': this host has the route 10.8.0.0/16 via 192.0.2.9 dev eth0; remove it, or
      choose another network"
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils import _params as p
from ..module_utils._cluster import preflight
from ..module_utils._state import files

ARGUMENT_SPEC = {
    "state": {"type": "dict", "required": True},
    "previous": {"type": "dict", "default": {}},
    "pools": {"type": "list", "elements": "dict", "default": []},
    "adopt": {"type": "bool", "default": False},
    "leaving": {"type": "bool", "default": False},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    params = module.params
    _module.require_root(module)
    try:
        now = files.state_of(params["state"])
        previous = files.state_of(params["previous"]) if params["previous"] else None
        pools = [
            (f"instances[{one.get('name')}].{key}", p.network(f"pools[].{key}", str(one[key]), version=version))
            for one in params["pools"]
            for key, version in (("pool", 4), ("pool_ipv6", 6))
            if one.get(key)
        ]
        found = preflight.findings(now, previous, pools, adopt=params["adopt"], leaving=params["leaving"])
    except (ValueError, OSError) as exc:  # ParameterError and ShapeError are ValueErrors
        module.fail_json(msg=str(exc))
    for sentence in found.warnings:
        module.warn(sentence)
    if found.errors:
        module.fail_json(msg="\n".join(found.errors), errors=found.errors)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
