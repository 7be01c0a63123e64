#!/usr/bin/python
# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: clusterip
short_description: Share one service address among several nodes by a hash of the client's address
version_added: 0.1.0
description:
  - Configures a host so that several nodes, network namespaces behind a bridge, serve the same IP address. A hash of
    the client's address selects a bucket. Each bucket is owned by one node, which receives the packets of its clients.
    The options have the names of the kernel's own C(CLUSTERIP) target.
  - Buckets can be added to a node and released while traffic flows. A move affects no other bucket. With
    O(distribution=steer) it is one atomic transaction. With O(distribution=flood) each node decides by itself, and the
    new owner accepts a bucket before the previous one releases it. For some milliseconds both receive its packets, and
    none is lost.
  - The host answers ARP and neighbour solicitations for the address, so it stays reachable whichever nodes are up.
  - With O(shared), several hosts have the address. Each of them receives all packets, and accepts those of the buckets
    that its own nodes own.
  - With O(uplink=local), the host itself is the only node. No namespace or bridge is needed.
  - In each node, packets to the address that belong to none of O(services) are dropped. Ping is answered by the owner
    of the client's bucket.
options:
  name:
    description:
      - Name of the cluster, a lower case letter and up to nine of C(a-z), C(0-9), C(-) and C(_).
      - The nftables tables are named C(clustered_openvpn_NAME), those of an IPv6 address C(clustered_openvpn_NAME.v6).
      - An IPv4 address and an IPv6 address can have the same name. They are configured by one task each.
    type: str
    required: true
  address:
    description:
      - The service address, IPv4 or IPv6, without a prefix length. It must not be configured on the host by other
        means.
    type: str
    required: true
  interface:
    description:
      - The NIC that receives the clients' packets. With O(uplink=bridged), the port of O(bridge) that leads to the LAN.
    type: str
    required: true
  bridge:
    description:
      - The bridge to which the nodes are connected, an internal one, or that of the LAN with O(uplink=bridged).
      - Required unless O(uplink=local), which does not allow it.
    type: str
  uplink:
    description:
      - How packets from the NIC reach the nodes.
      - With V(routed), O(bridge) is internal and the NIC is not changed. The host forwards packets for the address to
        the bridge, and routes the nodes' answers.
      - With V(bridged), the nodes are on the LAN. The NIC is a port of O(bridge), the nodes have addresses of the LAN,
        and a separate port of the bridge answers ARP and neighbour solicitations for O(address).
      - With V(local), the host itself is the only node. The module adds O(address) to the host, and O(nodes) has
        exactly one entry.
    type: str
    choices: [routed, bridged, local]
    default: routed
  shared:
    description:
      - Whether other hosts on the LAN have O(address), too. ARP requests and neighbour solicitations for it are then
        answered with O(clustermac), a multicast MAC address that the NIC joins, so every host receives every packet.
        Packets of buckets that no node of this host owns are dropped.
      - O(clustermac), O(hash_init), O(total_nodes), O(hashmode) and O(hash_as) must be the same on all hosts, and each
        bucket must have one owner among all of them.
    type: bool
    default: false
  distribution:
    description:
      - How packets reach the node that owns their bucket.
      - With V(steer), the host looks up the owner and forwards the frame to that node only. The cost does not depend
        on the number of nodes.
      - With V(flood), the host forwards every frame to all nodes, and each node looks up the bucket by itself. Every
        frame costs CPU time in every node, and bursts are multiplied by the number of nodes.
    type: str
    choices: [steer, flood]
    default: steer
  engine:
    description:
      - The part of the kernel that evaluates the hash.
      - V(nftables) has no limits but O(total_nodes).
      - V(xt_cluster) is C(iptables -m cluster). It supports IPv4, up to 32 buckets, and O(hashmode=sourceip).
      - V(clusterip) is the C(CLUSTERIP) target of kernels before 6.3. It supports IPv4 and up to 16 buckets.
      - With V(xt_cluster) and V(clusterip) each node decides by itself. They require O(uplink=local) or
        O(distribution=flood).
      - V(auto) selects the first of V(nftables), V(xt_cluster) and V(clusterip) that supports the configuration.
      - After a change, the rules of the previous engine are removed once the new engine decides.
    type: str
    choices: [auto, nftables, xt_cluster, clusterip]
    default: nftables
  hash_as:
    description:
      - The engine whose hash is evaluated. With O(engine=nftables) it can be another engine's, so that hosts with
        different engines can share an address. It must be the same on all hosts that share an address.
      - V(clusterip) is the hash of the C(CLUSTERIP) target, in all three O(hashmode)s. It supports IPv4 only.
      - V(xt_cluster) is the hash of C(iptables -m cluster). It supports IPv4 only, and gives the same buckets as
        V(nftables) on little-endian machines.
      - If not specified, the hash of O(engine).
    type: str
    choices: [nftables, xt_cluster, clusterip]
  hashmode:
    description:
      - The fields that are hashed.
      - V(sourceip) hashes the client's address. All connections of a client reach the same node.
      - V(sourceip-sourceport) also hashes the client's port, V(sourceip-sourceport-destport) both ports, which
        distributes the connections of a single client. Both are for TCP services.
    type: str
    choices: [sourceip, sourceip-sourceport, sourceip-sourceport-destport]
    default: sourceip
  force:
    description:
      - Whether to allow a O(hashmode) with ports for UDP services. Fragments other than the first have no ports, so
        fragmented datagrams are lost.
    type: bool
    default: false
  forward_ipv6:
    description:
      - Whether the host forwards IPv6 even though O(address) is IPv4, for example for IPv6 in VPN tunnels. The kernel
        has one switch for all interfaces of the host.
    type: bool
    default: false
  hash_init:
    description:
      - The seed of the hash, a number of 32 bits. It must be the same on all hosts that share an address.
    type: int
    default: 0
  clustermac:
    description:
      - The multicast MAC address of the cluster.
      - With O(distribution=steer) or O(uplink=bridged), the host's own frames to the service address carry it as a
        unicast address, with its group bit cleared, until the owner is looked up.
      - If not specified, V(03:00) for IPv4 or V(03:06) for IPv6, followed by the last four bytes of the address.
    type: str
  total_nodes:
    description:
      - The number of buckets, 1 to 65536. With more buckets than nodes, nodes can have weights, and load can be moved
        in small parts.
    type: int
    default: 256
  nodes:
    description:
      - The nodes of this host.
    type: list
    elements: dict
    default: []
    suboptions:
      netns:
        description:
          - The network namespace of the node. Required unless O(uplink=local), which does not allow it.
        type: str
      mac:
        description:
          - The MAC address of the node's interface on the bridge. Required unless O(uplink=local), which does not allow
            it.
        type: str
      interface:
        description:
          - The node's interface on the bridge. Ignored with O(uplink=local).
        type: str
        default: eth0
      local_nodes:
        description:
          - Buckets of this node, numbers from 1 to O(total_nodes). O(claims) defines their meaning. Required unless
            O(claims=keep) or O(state=absent).
        type: list
        elements: int
  services:
    description:
      - The services at the address. All other packets to it are dropped, except for ping and ICMP errors about these
        services' flows.
    type: list
    elements: dict
    default: []
    suboptions:
      protocol:
        description:
          - The transport protocol.
        type: str
        choices: [udp, tcp]
        required: true
      port:
        description:
          - The port number.
        type: int
        required: true
  firewall:
    description:
      - Whether the packets that the nodes send and receive pass the chain C(FORWARD) of the host's iptables, whatever
        its policy. V(true) adds a chain C(clustered_openvpn_NAME) to the table C(filter) of each kind of iptables that
        has rules, and a jump to it. V(false) removes both. By default, these rules are not looked at.
      - It has an effect for IPv4 with O(uplink=routed). Other tables of nftables that drop packets still do.
    type: bool
    version_added: 0.2.0
  claims:
    description:
      - The meaning of O(nodes[].local_nodes).
      - With V(exact), the nodes own exactly these buckets.
      - With V(add), the nodes own these buckets as well, and the previous owners no longer do. With
        O(distribution=flood), where each node decides by itself, only nodes that are listed lose buckets.
      - With V(release), the nodes no longer own these buckets. A bucket that another node owns by now stays there.
      - With V(keep), all buckets stay with their owners.
    type: str
    choices: [exact, add, release, keep]
    default: exact
  state:
    description:
      - V(present) creates the configuration, and repairs it where the kernel differs from it.
      - V(absent) removes the rules, the address, its ARP or neighbour entries, and its route. The host's sysctls are
        restored to their values before the first run, except for those that another cluster needs.
    type: str
    choices: [present, absent]
    default: present
extends_documentation_fragment:
  - clustered.openvpn.kernel
seealso:
  - module: clustered.openvpn.clusterip_info
  - module: clustered.openvpn.bridge
notes:
  - The bridge needs a static FDB entry for the MAC address of each node, as created by
    R(clustered.openvpn.bridge,ansible_collections.clustered.openvpn.bridge_module). Without it the bridge floods, and
    every node receives every packet.
"""

EXAMPLES = r"""
- name: Share 192.0.2.10 between two namespaces
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

- name: Move bucket 2 to the second namespace
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

- name: Serve half of 192.0.2.20 on this host, without namespaces
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

- name: Take over the other host's half after its failure
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
  description: The changes as shell commands. Empty if nothing had to be changed.
  type: list
  elements: str
  returned: success
  sample: [ip neigh add proxy 192.0.2.10 dev eth1]
engine:
  description: The engine that evaluates the hash.
  type: str
  returned: O(state=present)
  sample: nftables
engine_reason:
  description:
    - The reason for this engine. With O(engine=auto), also the reason against each engine before it.
  type: str
  returned: O(state=present)
  sample: as asked for
moved:
  description:
    - The number of buckets whose owner changed, including buckets that had no owner before or have none now.
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
    "firewall": {"type": "bool"},
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
        if moved is None:  # of the first plan: after the change nothing is left to move
            moved = planned.result["moved"]
        planned.result["moved"] = moved
        return planned

    _module.run(module, plan)


if __name__ == "__main__":
    main()
