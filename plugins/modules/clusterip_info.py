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
  - Reads the nftables tables and iptables rules of this collection, and tells the service address, the hash and the
    owners of the buckets as the kernel really has them.
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
    engine:
      description: What evaluates the hash, V(nftables), V(xt_cluster) or V(clusterip).
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
      engine: nftables
      distribution: steer
      total_nodes: 4
      hash_init: 4660
      hash_as: nftables
      owners:
        "02:00:00:00:01:01": [1, 2]
        "02:00:00:00:01:02": [3, 4]
      unowned: []
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._cluster import cluster
from ..module_utils._cluster.engines import clusterip, nft_listing, nftables, xt_cluster
from ..module_utils._kernel import iptables_rules, namespaces
from ..module_utils._kernel.command import CommandError
from ..module_utils._kernel.observed import View
from ..module_utils._params import ParameterError

PREFIX = cluster.table_name("")
OLD_ENGINES = {"clusterip": clusterip, "xt_cluster": xt_cluster}


def cluster_facts(kernel: _module.Kernel, table: str) -> dict:
    """What the tables say of their cluster. Where the rules were damaged, address, total and seed are not known."""
    found = kernel.tables([("", family, table) for family in ("bridge", "netdev")], {"": View("", True)})
    bridged = found["", "bridge", table] is not None
    host = found["", "bridge" if bridged else "netdev", table]
    held, hashed, engine, distribution = (
        nft_listing.held_on_host(host),
        nft_listing.hash_in(host),
        "nftables",
        "steer",
    )
    if not hashed:
        # Each decides for itself: the host, or its members.
        engine, hashed, held = facts_by_rules(kernel, table, [""])
    if not hashed:
        distribution = "flood"
        views = kernel.observe(namespaces.names(), ())
        listings = kernel.tables([(netns, "netdev", table) for netns in views], views)
        for (netns, _family, _table), listing in listings.items():
            claims = nft_listing.hash_in(listing)
            if claims:
                hashed = claims
                held[mac_of(views[netns])] = nft_listing.held_in_member(listing)
    if not hashed:
        engine, hashed, held = facts_by_rules(kernel, table, namespaces.names())
    facts = {
        "engine": engine,
        "uplink": "local"
        if nft_listing.is_local(host) or nftables.LOCAL in held
        else "bridged"
        if bridged
        else "routed",
        "distribution": distribution,
        **(hashed or {"address": None, "total_nodes": 0, "hash_init": None, "hash_as": None}),
    }
    owned = frozenset().union(*held.values())
    return {
        **facts,
        "owners": {mac or "local": sorted(buckets) for mac, buckets in sorted(held.items())},
        "unowned": [bucket for bucket in range(1, facts["total_nodes"] + 1) if bucket not in owned],
    }


def facts_by_rules(kernel: _module.Kernel, table: str, netnses: list) -> tuple:
    """What the rules of iptables say: the engine, its hash, and the buckets of each MAC address."""
    views = kernel.observe(netnses, ())
    saved = kernel.saved(views)
    for name, engine in OLD_ENGINES.items():
        hashes = {netns: engine.hash_in(table, have) for netns, have in saved.items()}
        places = [netns for netns, hashed in hashes.items() if hashed]
        if places:
            hashed = hashes[places[0]]
            again = kernel.saved(places, hashed["address"])
            return name, hashed, {mac_of(views[netns]): set(engine.held(table, again[netns])) for netns in places}
    return "nftables", None, {}


def mac_of(view: View) -> str:
    """Of the node that a namespace is."""
    if not view.netns:
        return nftables.LOCAL
    return next(link.mac for link in view.links.values() if link.kind == "veth")


def main() -> None:
    module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
    only = module.params["name"]
    try:
        if only is not None:
            cluster.cluster_name("name", only)
        _module.require_root(module)
        with _module.kernel_of(module) as kernel:
            known = [table for family, table in kernel.list_tables() if family in ("netdev", "bridge")]
            known += [
                chain for lines in kernel.saved([""])[""].lines.values() for chain in iptables_rules.chains(lines)
            ]
            names = {table[len(PREFIX) :] for table in known if table.startswith(PREFIX)}
            clusters = {
                name: cluster_facts(kernel, PREFIX + name)
                for name in sorted(names)
                if only in (None, name.removesuffix(cluster.SIX))
            }
    except (ParameterError, CommandError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, clusters=clusters)


if __name__ == "__main__":
    main()
