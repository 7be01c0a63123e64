#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clusterip
short_description: One service address for several nodes, each owning some of the hash's results
version_added: 0.1.0
description:
  - Makes the members of a cluster, network namespaces behind a bridge, serve one address. A hash of the client's
    address names a
    bucket, and each bucket is owned by one node, which gets the packet. The words are those of the kernel's own
    C(CLUSTERIP) target.
  - Buckets can be added to a node and released from it while traffic flows. A move is one atomic transaction, and
    nothing else is
    touched.
  - The host answers ARP for the address, so the address is reachable whichever members are alive.
  - With O(shared), several hosts have one address. Each gets all packets, and takes those of its own nodes' buckets.
  - With O(uplink=local), the host itself is the node, whatever it runs.
  - In each member, packets for the address that belong to no service are dropped. Ping is answered, by the owner of
    the bucket.
options:
  name:
    description:
      - Name of the cluster. The nftables tables are called C(clustered_openvpn_NAME), those of an IPv6 address
        C(clustered_openvpn_NAME.v6).
      - An IPv4 address and an IPv6 address may have the same name, and each is a claim of its own.
    type: str
    required: true
  address:
    description:
      - The service address, IPv4 or IPv6. No interface of the host may carry it.
    type: str
    required: true
  interface:
    description:
      - The NIC on which clients arrive. With O(uplink=bridged), the port of O(bridge) that leads to the LAN.
    type: str
    required: true
  bridge:
    description:
      - The bridge on which the nodes are. An internal one, or the LAN's with O(uplink=bridged).
      - Needed, but for O(uplink=local), which has none.
    type: str
  uplink:
    description:
      - How the NIC feeds the nodes. V(routed) leaves the NIC as it is, and the host routes what the nodes send.
      - V(bridged), the classic form, is for nodes on the LAN itself. The NIC is a port of O(bridge), nodes have
        addresses of
        the LAN, and the bridge answers ARP and neighbour solicitations for O(address) by a port of its own.
      - V(local) is for a host that is a node itself, without namespaces. It carries O(address), and O(nodes) has one
        entry.
    type: str
    choices: [routed, bridged, local]
    default: routed
  shared:
    description:
      - Other hosts on the LAN have O(address), too. Whoever asks for its MAC address, by ARP or neighbour discovery, is
        told O(clustermac), and the NIC joins that. Packets for buckets that no node of this host owns are
        dropped.
      - O(clustermac), O(hash_init), O(total_nodes) and O(hashmode) must be the same on all hosts, and each bucket have
        one owner among them.
    type: bool
    default: false
  distribution:
    description:
      - V(steer) looks up the owner once on the host, and forwards the frame to it alone. Its cost does not depend on
        the number of nodes.
      - V(flood), the classic form, hands every frame to all nodes, and each decides for itself. Every node costs
        something for every
        frame, and bursts are multiplied.
    type: str
    choices: [steer, flood]
    default: steer
  engine:
    description:
      - What evaluates the hash in the kernel.
      - V(xt_cluster) is C(iptables -m cluster), for IPv4 and 32 buckets at most. V(clusterip) is the C(CLUSTERIP)
        target of kernels before 6.3, for IPv4 and 16 buckets. With both each node decides for itself, so they need
        O(uplink=local) or O(distribution=flood).
      - V(auto) takes the first of V(nftables), V(xt_cluster) and V(clusterip) that can do all that is wanted.
      - What is left of another engine is removed as soon as the wanted one decides.
    type: str
    choices: [auto, nftables, xt_cluster, clusterip]
    default: nftables
  hash_as:
    description:
      - The engine whose hash O(engine=nftables) computes, so that hosts of a cluster can share a ring though they have
        different engines. That of O(engine) when left out. The same on all hosts that share an address.
      - V(clusterip) is the hash of the kernel's own C(CLUSTERIP) target, in all three O(hashmode)s. V(xt_cluster) is
        that of C(iptables -m cluster), which for IPv4 on little-endian machines is the one of V(nftables).
        Both are for IPv4.
    type: str
    choices: [nftables, xt_cluster, clusterip]
  hashmode:
    description:
      - What is hashed. V(sourceip) is the client's address.
      - V(sourceip-sourceport) and V(sourceip-sourceport-destport) spread the connections of one address, too. They
        are for TCP.
    type: str
    choices: [sourceip, sourceip-sourceport, sourceip-sourceport-destport]
    default: sourceip
  force:
    description:
      - Take a O(hashmode) with ports for UDP services, too. The fragments of a datagram, but the first, have no
        ports and are lost then.
    type: bool
    default: false
  forward_ipv6:
    description:
      - Have the host forward IPv6 for an IPv4 address, too, since what is in the tunnels of a VPN may be IPv6. It is
        one switch for the whole host.
    type: bool
    default: false
  hash_init:
    description: The seed of the hash, a number of 32 bits. The same on all hosts that share an address.
    type: int
    default: 0
  clustermac:
    description:
      - The multicast MAC address of the cluster. With O(distribution=steer), what the host itself sends to the
        service address carries it
        as a unicast, its group bit cleared, until the owner is looked up.
      - V(03:00) and the last four bytes of the address when left out, V(03:06) for an IPv6 address.
    type: str
  total_nodes:
    description: The number of buckets. More than nodes, so that buckets can be weighted and moved.
    type: int
    default: 256
  nodes:
    description: The nodes of this host.
    type: list
    elements: dict
    default: []
    suboptions:
      netns:
        description: The namespace of the node. Needed, but for O(uplink=local).
        type: str
      mac:
        description: The MAC address of the node's interface on the bridge. Needed, but for O(uplink=local).
        type: str
      interface:
        description: The node's interface on the bridge.
        type: str
        default: eth0
      local_nodes:
        description: The buckets that O(claims) speaks of, each between 1 and O(total_nodes).
        type: list
        elements: int
  services:
    description: What is served at the address. Everything else is dropped, but for ping and errors about these flows.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description: The transport protocol.
        type: str
        choices: [udp, tcp]
        required: true
      port:
        description: The port.
        type: int
        required: true
  claims:
    description:
      - What O(nodes[].local_nodes) means.
      - V(exact) makes the nodes own just those buckets.
      - V(add) gives them those buckets, whoever owns them now. V(release) takes those buckets from them, where they
        still own them.
        Other buckets stay as they are. With O(distribution=flood) V(add) takes a bucket from those nodes only that
        are listed, as each
        node decides for itself.
      - V(keep) leaves every bucket with its owner.
    type: str
    choices: [exact, add, release, keep]
    default: exact
  state:
    description:
      - V(present) makes what is missing and repairs what differs.
      - V(absent) removes the tables, the address, what answers ARP for it, and the route. The host's sysctls become
        what they were before, as the tables remember them, but for those that another cluster needs.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.clusterip_info
  - module: clustered.openvpn.bridge
notes:
  - The bridge needs a static FDB entry for each node's MAC address, as
    R(clustered.openvpn.bridge,ansible_collections.clustered.openvpn.bridge_module)
    makes it. Without one it floods, and every member gets every packet.
"""

EXAMPLES = r"""
- name: Two members share 192.0.2.10
  clustered.openvpn.clusterip:
    name: vpn
    address: 192.0.2.10
    interface: eth1
    bridge: br-vpn
    hash_init: 0x1234
    total_nodes: 4
    services:
      - protocol: udp
        port: 1194
    nodes:
      - netns: vpn1
        mac: 02:00:00:00:01:01
        local_nodes: [1, 2]
      - netns: vpn2
        mac: 02:00:00:00:01:02
        local_nodes: [3, 4]

- name: The second member takes over bucket 2, traffic flowing
  clustered.openvpn.clusterip:
    name: vpn
    address: 192.0.2.10
    interface: eth1
    bridge: br-vpn
    hash_init: 0x1234
    total_nodes: 4
    services:
      - protocol: udp
        port: 1194
    nodes:
      - netns: vpn1
        mac: 02:00:00:00:01:01
        local_nodes: []
      - netns: vpn2
        mac: 02:00:00:00:01:02
        local_nodes: [2]
    claims: add

- name: This host serves half of 192.0.2.20, another one the other half
  clustered.openvpn.clusterip:
    name: web
    address: 192.0.2.20
    interface: eth1
    uplink: local
    shared: true
    total_nodes: 4
    services:
      - protocol: tcp
        port: 80
    nodes:
      - local_nodes: [1, 2]

- name: The other one is gone, this one takes its buckets, too
  clustered.openvpn.clusterip:
    name: web
    address: 192.0.2.20
    interface: eth1
    uplink: local
    shared: true
    total_nodes: 4
    services:
      - protocol: tcp
        port: 80
    nodes:
      - local_nodes: [3, 4]
    claims: add
"""

RETURN = r"""
commands:
  description: The changes, as an administrator would type them. Empty when nothing was to do.
  type: list
  elements: str
  returned: success
  sample: [ip neigh add proxy 192.0.2.10 dev eth1]
engine:
  description: What evaluates the hash.
  type: str
  returned: O(state=present)
  sample: nftables
engine_reason:
  description: Why it is that one. With O(engine=auto), also why it is none of those before it.
  type: str
  returned: O(state=present)
  sample: as asked for
moved:
  description: The number of buckets whose owner changed, counting those that had none or have none now.
  type: int
  returned: success
  sample: 1
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import _module
from ..module_utils._cluster import hashing, parameters, reconcile
from ..module_utils._cluster.cluster import ROUTED, STEER
from ..module_utils._cluster.engines.registry import AUTO, ENGINES
from ..module_utils._cluster.uplinks.registry import UPLINKS
from ..module_utils._kernel import steps
from ..module_utils._params import ParameterError

ARGUMENT_SPEC = {
    "name": {"type": "str", "required": True},
    "address": {"type": "str", "required": True},
    "interface": {"type": "str", "required": True},
    "bridge": {"type": "str"},
    "uplink": {"type": "str", "choices": list(UPLINKS), "default": ROUTED},
    "shared": {"type": "bool", "default": False},
    "distribution": {"type": "str", "choices": [STEER, "flood"], "default": STEER},
    "engine": {"type": "str", "choices": [AUTO, *ENGINES], "default": hashing.DEFAULT},
    "hash_as": {"type": "str", "choices": list(hashing.HASHES)},
    "hashmode": {
        "type": "str",
        "choices": ["sourceip", "sourceip-sourceport", "sourceip-sourceport-destport"],
        "default": "sourceip",
    },
    "force": {"type": "bool", "default": False},
    "forward_ipv6": {"type": "bool", "default": False},
    "hash_init": {"type": "int", "default": hashing.HASH_INIT},
    "clustermac": {"type": "str"},
    "total_nodes": {"type": "int", "default": hashing.TOTAL_NODES},
    "nodes": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "netns": {"type": "str"},
            "mac": {"type": "str"},
            "interface": {"type": "str", "default": "eth0"},
            "local_nodes": {"type": "list", "elements": "int"},
        },
    },
    "services": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "protocol": {"type": "str", "choices": ["udp", "tcp"], "required": True},
            "port": {"type": "int", "required": True},
        },
    },
    "claims": {"type": "str", "choices": ["exact", "add", "release", "keep"], "default": "exact"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
}


def main() -> None:
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    present = module.params["state"] == "present"
    try:
        cluster = parameters.cluster_from(module.params)
    except ParameterError as exc:
        module.fail_json(msg=str(exc))
    moved = None

    def plan(kernel: _module.Kernel) -> steps.Planned:
        nonlocal moved
        planned = reconcile.clusterip(kernel, cluster, present)
        if moved is None:  # the first look: after the change there is nothing left to move
            moved = planned.result["moved"]
        planned.result["moved"] = moved
        return planned

    _module.run(module, plan)


if __name__ == "__main__":
    main()
