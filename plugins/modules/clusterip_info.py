#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clusterip_info
short_description: Gather the facts of clusters from the kernel
version_added: 0.1.0
description:
  - Reads this collection's nftables tables and iptables rules, and returns for each cluster of the host its service
    address, its hash and the owners of its buckets.
  - The facts are those of the running kernel, not of the desired state.
options:
  name:
    description: Name of the cluster, for its IPv4 and its IPv6 address. If not specified, all clusters of the host.
    type: str
extends_documentation_fragment:
  - clustered.openvpn.kernel
attributes:
  diff_mode:
    support: N/A
    details: This module changes nothing.
seealso:
  - module: clustered.openvpn.clusterip
"""

EXAMPLES = r"""
- name: Gather the facts of all clusters of the host
  clustered.openvpn.clusterip_info:
  register: result

- name: Show the owners of the cluster vpn
  ansible.builtin.debug:
    var: result.clusters.vpn.owners
"""

RETURN = r"""
clusters:
  description:
    - The clusters by name. Empty if the host has none.
    - A cluster with an IPv6 address has the key C(NAME.v6). If it has an IPv4 address as well, that one has the key
      C(NAME).
  type: dict
  returned: success
  contains:
    address:
      description: The service address. Null if the rules in the kernel are damaged.
      type: str
    uplink:
      description: How packets reach the members, V(routed), V(bridged) or V(local).
      type: str
    engine:
      description: The engine that evaluates the hash, V(nftables), V(xt_cluster) or V(clusterip).
      type: str
    distribution:
      description: How packets are distributed among the members, V(steer) or V(flood).
      type: str
    total_nodes:
      description: The number of buckets.
      type: int
    hash_init:
      description: The seed of the hash. Null if the rules in the kernel are damaged.
      type: int
    hash_as:
      description:
        - The engine whose hash is evaluated, V(nftables), V(xt_cluster) or V(clusterip). The hash of V(xt_cluster)
          gives the same buckets as that of V(nftables).
      type: str
    owners:
      description: The buckets of each member, by its MAC address. The key V(local) is the host itself.
      type: dict
    unowned:
      description: The buckets that have no owner on this host.
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
from ..module_utils._cluster import facts
from ..module_utils._cluster.cluster import IPV6_SUFFIX, cluster_name
from ..module_utils._kernel import namespaces
from ..module_utils._params import ParameterError


def main() -> None:
    module = AnsibleModule(argument_spec={"name": {"type": "str"}}, supports_check_mode=True)
    only = module.params["name"]
    try:
        if only is not None:
            cluster_name("name", only)
        _module.require_root(module)
        with _module.kernel_of(module) as kernel:
            netnses = namespaces.names()
            clusters = {
                name: facts.cluster_facts(kernel, name, netnses)
                for name in facts.names(kernel)
                if only in (None, name.removesuffix(IPV6_SUFFIX))
            }
    except (ParameterError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(changed=False, clusters=clusters)


if __name__ == "__main__":
    main()
