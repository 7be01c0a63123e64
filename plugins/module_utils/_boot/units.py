# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The text of the systemd units and of the program's start file, and the order of units at boot. Pure.

Units that run the program set no option that needs a mount namespace: network namespaces are mounted files, and those
that the program creates would exist in the unit's mount namespace alone.
"""

from __future__ import annotations

from .._bundle import bundle as _bundle
from .._openvpn.supervisor_systemd import UNITS
from .._ring import paths
from . import program

PROGRAM = "/usr/local/sbin/clustered-openvpn"
LIBRARY = "/usr/local/lib/clustered-openvpn"
CLUSTER = "clustered-openvpn"  # the unit of a cluster's or bundle's network
WATCH = _bundle.WATCH_UNIT
DISTRIBUTED = "/lib/systemd/system"  # where packages install their units
MEMBER = "clustered-openvpn-member.conf"  # the drop-in of an instance's unit
MANAGED = "# Managed by Ansible, clustered.openvpn.cluster_service: changes made here are overwritten."


def cluster_unit(name: str) -> str:
    """The unit, with C(.service), of the network of a cluster or bundle."""
    return f"{CLUSTER}@{name}.service"


def template_path(unit: str) -> str:
    """Where the template unit of that name is installed."""
    return f"{UNITS}/{unit}@.service"


PROGRAM_TEXT = f'''#!/usr/bin/python3
{MANAGED}
"""Applies or removes the desired state {paths.desired_state("NAME")}."""

import sys

sys.path.insert(0, "{LIBRARY}")
sys.dont_write_bytecode = True

from {program.__name__} import main

sys.exit(main(sys.argv[1:]))
'''

CONFINED = """\
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_DAC_OVERRIDE
DevicePolicy=closed
DeviceAllow=/dev/net/tun rw
LockPersonality=yes
MemoryDenyWriteExecute=yes
ProtectClock=yes
ProtectHostname=yes
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6
RestrictNamespaces=net mnt
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM"""

UNIT_TEXT = f"""{MANAGED}
[Unit]
Description=Network of cluster or bundle %i (namespaces, links, addresses, rules)
Documentation=file:{paths.desired_state("%i")}
# nftables.service flushes all rules of the host when it starts and when it reloads.
ReloadPropagatedFrom=nftables.service
After=network-online.target nftables.service systemd-sysctl.service
Wants=network-online.target
# The NIC may appear late. The end of the boot waits until this unit is active or has failed for good.
StartLimitIntervalSec=30
StartLimitBurst=8

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={PROGRAM} start %i
ExecReload={PROGRAM} start %i
ExecStop={PROGRAM} stop %i
Restart=on-failure
RestartSec=2s
RestartPreventExitStatus={program.DAMAGED}
IPAddressDeny=any
{CONFINED}

[Install]
WantedBy=multi-user.target
"""

# CAP_NET_BROADCAST: notifications of members' namespaces, without a socket inside.
KEEPER_TEXT = f"""{MANAGED}
[Unit]
Description=Repair of cluster or bundle %i (as soon as a part of it gets lost)
Documentation=file:{paths.desired_state("%i")}
BindsTo={cluster_unit("%i")}
After={cluster_unit("%i")}
# It reads the desired state again.
ReloadPropagatedFrom={cluster_unit("%i")}

[Service]
Type=notify
ExecStart={PROGRAM} keep %i
ExecReload=/bin/kill -HUP $MAINPID
RuntimeDirectory={paths.keeper_directory("%i").removeprefix("/run/")}
Restart=always
RestartSec=1s
RestartPreventExitStatus={program.DAMAGED}
WatchdogSec=60s
IPAddressDeny=any
{CONFINED.replace("CAP_NET_RAW", "CAP_NET_RAW CAP_NET_BROADCAST")}
"""

CLAIMS_TEXT = f"""{MANAGED}
[Unit]
Description=Bucket ownership of cluster %i (follows health checks, and keepalived)
Documentation=file:{paths.desired_state("%i")}
BindsTo={cluster_unit("%i")}
After={cluster_unit("%i")}
Wants={paths.vrrp_unit("%i")}

[Service]
Type=notify
ExecStart={PROGRAM} claims %i
ExecReload=/bin/kill -HUP $MAINPID
ExecStopPost={PROGRAM} release %i
RuntimeDirectory={paths.run_directory("%i").removeprefix("/run/")}
RuntimeDirectoryMode=0700
Restart=always
RestartSec=1s
RestartPreventExitStatus={program.DAMAGED}
{CONFINED}
"""

VRRP_TEXT = f"""{MANAGED}
[Unit]
Description=Election of hosts for the slots of cluster %i (keepalived)
Documentation=file:{paths.keepalived_conf("%i")} man:keepalived(8)
# Where the members of one host replace each other, there is no election.
ConditionPathExists={paths.keepalived_conf("%i")}
BindsTo={paths.claims_unit("%i")}
After={paths.claims_unit("%i")}

[Service]
Type=notify
NotifyAccess=all
ExecStartPre={PROGRAM} release %i
ExecStartPre=/usr/bin/touch {paths.vrrp_loaded("%i")}
ExecStart=/usr/sbin/keepalived --dont-fork --log-console --vrrp \
 --use-file={paths.keepalived_conf("%i")} \
 --pid={paths.run_directory("%i")}/keepalived.pid --vrrp_pid={paths.run_directory("%i")}/vrrp.pid
ExecReload=/usr/bin/touch {paths.vrrp_loaded("%i")}
ExecReload=/bin/kill -HUP $MAINPID
ExecStopPost=-{PROGRAM} release %i
Restart=always
RestartSec=1s
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BROADCAST
DevicePolicy=closed
LockPersonality=yes
PrivateTmp=yes
ProtectClock=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectSystem=full
RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET AF_INET6 AF_PACKET
RestrictNamespaces=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""

# Bound to the cluster's unit like an instance. It restarts quickly: without its datagrams, the other end of the bundle
# takes all tunnels for dead.
WATCH_TEXT = f"""{MANAGED}
[Unit]
Description=Tunnel health of bundle %i (removes dead tunnels from the spread)
Documentation=file:{paths.desired_state("%i")}
StartLimitIntervalSec=0

[Service]
ExecStart={PROGRAM} watch %i
Restart=always
RestartSec=200ms
Nice=-10
{CONFINED}
"""

TEXTS = {
    template_path(CLUSTER): UNIT_TEXT,
    template_path(WATCH): WATCH_TEXT,
    template_path(paths.KEEPER): KEEPER_TEXT,
    template_path(paths.CLAIMS): CLAIMS_TEXT,
    template_path(paths.VRRP): VRRP_TEXT,
}
