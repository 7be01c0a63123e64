#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clusterip_info
short_description: What the kernel holds of a cluster
version_added: 0.1.0
description:
  - Reads the nftables tables of this collection, and tells the service address, the hash and the owners of the
    buckets as the kernel
    really has them.
options:
  name:
    description: Name of a cluster, whatever addresses it has. All clusters of the host when left out.
    type: str
extends_documentation_fragment:
  - clustered.openvpn.kernel
attributes:
  diff_mode:
    support: N/A
    details: It changes nothing.
seealso:
  - module: clustered.openvpn.clusterip
"""

EXAMPLES = r"""
- name: See who owns what
  clustered.openvpn.clusterip_info:
  register: result

- name: Show the owners of the cluster vpn
  ansible.builtin.debug:
    var: result.clusters.vpn.owners
"""

RETURN = r"""
clusters:
  description:
    - The clusters by their names. Empty when the host has none.
    - An IPv6 address stands under C(NAME.v6), beside that of IPv4 under C(NAME).
  type: dict
  returned: success
  contains:
    address:
      description: The service address.
      type: str
    uplink:
      description: How the NIC feeds the nodes, V(routed), V(bridged) or V(local).
      type: str
    distribution:
      description: How packets come to their owner, V(steer) or V(flood).
      type: str
    total_nodes:
      description: The number of buckets.
      type: int
    hash_init:
      description: The seed of the hash.
      type: int
    hash_as:
      description:
        - The engine whose hash it is, V(nftables) or V(clusterip). That of V(xt_cluster) is the one of V(nftables).
      type: str
    owners:
      description: The buckets that each MAC address owns. V(local) stands for the host itself.
      type: dict
    unowned:
      description: Buckets that nobody on this host owns.
      type: list
      elements: int
  sample:
    vpn:
      address: 192.0.2.10
      uplink: routed
      distribution: steer
      total_nodes: 4
      hash_init: 4660
      hash_as: nftables
      owners:
        "02:00:00:00:01:01": [1, 2]
        "02:00:00:00:01:02": [3, 4]
      unowned: []
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.clustered.openvpn.plugins.module_utils import _cluster, _module, _nft
from ansible_collections.clustered.openvpn.plugins.module_utils._engines import nftables
from ansible_collections.clustered.openvpn.plugins.module_utils._kernel import RUN_NETNS
from ansible_collections.clustered.openvpn.plugins.module_utils._observed import View
from ansible_collections.clustered.openvpn.plugins.module_utils._params import ParameterError

PREFIX = _cluster.table_name("")


def cluster_facts(kernel: _module.Kernel, table: str) -> dict:
    """What the tables say of their cluster. Where the rules were damaged, address, total and seed are not known."""
    found = kernel.tables([("", family, table) for family in ("bridge", "netdev")], {"": View("", True)})
    bridged = found["", "bridge", table] is not None
    host = found["", "bridge" if bridged else "netdev", table]
    held, hashed, distribution = nftables.held_on_host(host), nftables.hash_in(host), "steer"
    if not hashed:
        views = kernel.observe(namespaces(), ())
        listings = kernel.tables([(netns, "netdev", table) for netns in views], views)
        for (netns, _family, _table), listing in listings.items():
            claims = nftables.hash_in(listing)
            if claims:
                hashed, distribution = claims, "flood"
                mac = next(link.mac for link in views[netns].links.values() if link.kind == "veth")
                held[mac] = nftables.held_in_member(listing)
    facts = {
        "uplink": "local" if nftables.is_local(host) else "bridged" if bridged else "routed",
        "distribution": distribution,
        **(hashed or {"address": None, "total_nodes": 0, "hash_init": None, "hash_as": None}),
    }
    owned = frozenset().union(*held.values())
    return {
        **facts,
        "owners": {mac or "local": sorted(buckets) for mac, buckets in sorted(held.items())},
        "unowned": [bucket for bucket in range(1, facts["total_nodes"] + 1) if bucket not in owned],
    }


def namespaces() -> list:
    """All that have a name."""
    return sorted(os.listdir(RUN_NETNS)) if os.path.isdir(RUN_NETNS) else []


def main() -> None:
    module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
    only = module.params["name"]
    try:
        if only is not None:
            _cluster.cluster_name("name", only)
        with _module.opened(module) as kernel:
            names = [
                table[len(PREFIX) :]
                for family, table in _nft.list_tables()
                if family == "netdev" and table.startswith(PREFIX)
            ]
            clusters = {
                name: cluster_facts(kernel, PREFIX + name)
                for name in sorted(names)
                if only in (None, name.removesuffix(_cluster.SIX))
            }
    except (ParameterError, _nft.NftError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, clusters=clusters)


if __name__ == "__main__":
    main()
