# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names in the cluster's nftables tables. They are part of the state in the kernel: do not change them."""

OWNER = "owner"  # the map of a host that steers: bucket -> MAC address of its owner
OWNED = "owned"  # the set of a member that decides by itself: its buckets
UPLINK, CLAIM = "uplink", "claim"  # the chains that hash, on the host and in a member
ANNOUNCE = "said"  # the chain that makes ARP and neighbour discovery announce clustermac
SYSCTLS = "before"  # the chain whose comments record the host's sysctls before the cluster changed them
