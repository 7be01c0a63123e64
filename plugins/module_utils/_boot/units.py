# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The units of systemd that a host has, and the program that they run: their text. Pure.

Nothing in them needs a mount namespace where the program runs: namespaces are files that are mounted, and would be seen
in the unit alone.
"""

from __future__ import annotations

from .._bundle import bundle as _bundle
from .._openvpn.supervisor_systemd import UNITS
from . import program

PROGRAM = "/usr/local/sbin/clustered-openvpn"
LIBRARY = "/usr/local/lib/clustered-openvpn"
UNIT = f"{UNITS}/clustered-openvpn@.service"
WATCH = _bundle.WATCH_UNIT
WATCH_UNIT = f"{UNITS}/{WATCH}@.service"
DISTRIBUTED = "/lib/systemd/system"
MEMBER = "clustered-openvpn-member.conf"  # the drop-in of an instance's unit
MADE = "# Managed by Ansible, clustered.openvpn.cluster_service: changes made here are overwritten."

PROGRAM_TEXT = f'''#!/usr/bin/python3
{MADE}
"""Brings a cluster's network to what /etc/clustered-openvpn/NAME.json says, or takes it down."""

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

UNIT_TEXT = f"""{MADE}
[Unit]
Description=Network of the OpenVPN cluster %i
Documentation=file:/etc/clustered-openvpn/%i.json
# nftables.service flushes all rules, ours too, when it starts and when it reloads.
ReloadPropagatedFrom=nftables.service
After=network-online.target nftables.service systemd-sysctl.service
Wants=network-online.target
# The NIC may be late. But the end of the boot waits until this unit is up, or gives up.
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

CLAIMS = f"{UNITS}/clustered-openvpn-claims@.service"
CLAIMS_TEXT = f"""{MADE}
[Unit]
Description=Buckets of the cluster %i on this host, as keepalived says
Documentation=file:/etc/clustered-openvpn/%i.json
BindsTo=clustered-openvpn@%i.service
After=clustered-openvpn@%i.service
Wants=clustered-openvpn-vrrp@%i.service

[Service]
Type=notify
ExecStart={PROGRAM} claims %i
ExecReload=/bin/kill -HUP $MAINPID
ExecStopPost={PROGRAM} release %i
RuntimeDirectory=clustered-openvpn-claims-%i
RuntimeDirectoryMode=0700
Restart=always
RestartSec=1s
RestartPreventExitStatus={program.DAMAGED}
{CONFINED}
"""

VRRP = f"{UNITS}/clustered-openvpn-vrrp@.service"
VRRP_TEXT = f"""{MADE}
[Unit]
Description=Election of the hosts for the slots of the cluster %i (keepalived)
Documentation=file:/etc/clustered-openvpn/%i.ring/keepalived.conf man:keepalived(8)
BindsTo=clustered-openvpn-claims@%i.service
After=clustered-openvpn-claims@%i.service
ReloadPropagatedFrom=nftables.service

[Service]
Type=notify
NotifyAccess=all
ExecStartPre={PROGRAM} release %i
ExecStartPre=/usr/bin/touch /run/clustered-openvpn-claims-%i/elected
ExecStartPre=/usr/sbin/nft -f /etc/clustered-openvpn/%i.ring/vrrp.nft
ExecStart=/usr/sbin/keepalived --dont-fork --log-console --vrrp \
 --use-file=/etc/clustered-openvpn/%i.ring/keepalived.conf \
 --pid=/run/clustered-openvpn-claims-%i/keepalived.pid --vrrp_pid=/run/clustered-openvpn-claims-%i/vrrp.pid
ExecReload=/usr/bin/touch /run/clustered-openvpn-claims-%i/elected
ExecReload=/usr/sbin/nft -f /etc/clustered-openvpn/%i.ring/vrrp.nft
ExecReload=/bin/kill -HUP $MAINPID
ExecStopPost=-{PROGRAM} release %i
ExecStopPost=-/usr/sbin/nft delete table ip clustered_openvpn_%i.vrrp
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

# It is tied to the unit above like an instance. The other end is about to take a tunnel for dead while it does not run.
WATCH_UNIT_TEXT = f"""{MADE}
[Unit]
Description=Watch of the tunnels of the OpenVPN bundle %i
Documentation=file:/etc/clustered-openvpn/%i.json
StartLimitIntervalSec=0

[Service]
ExecStart={PROGRAM} watch %i
Restart=always
RestartSec=200ms
Nice=-10
{CONFINED}
"""

TEXTS = {UNIT: UNIT_TEXT, WATCH_UNIT: WATCH_UNIT_TEXT, CLAIMS: CLAIMS_TEXT, VRRP: VRRP_TEXT}
