# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Carrying out steps: links, addresses, routes and neighbours by pyroute2, the rest by files and commands.

The only file that uses pyroute2, in versions from 0.7.2 on. Its import takes 0.1 to 0.3 s, so Kernel.apply() imports
this file when the first step is due.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
import typing as t

from . import command, iptables, namespaces, nft, rtnetlink, sysctl
from .steps import KernelError, Step

NTF_MASTER = 0x04  # linux/neighbour.h
IFA_F_NODAD, FOREVER = 0x02, 0xFFFFFFFF  # linux/if_addr.h
PROTOCOLS = {"static": 4}
SIOCADDMULTI, SIOCDELMULTI = 0x8931, 0x8932  # linux/sockios.h: netlink has no request for this


class Changes:
    """pyroute2's netlink handles, one for each namespace that is changed. To be closed."""

    def __init__(self) -> None:
        try:
            from pyroute2 import IPRoute
            from pyroute2.netlink.exceptions import NetlinkError
        except ImportError as exc:
            raise KernelError(f"cannot import pyroute2 ({exc}): install the Debian package python3-pyroute2") from exc
        self._open: t.Callable[[], t.Any] = IPRoute
        self._netlink_error: t.Any = NetlinkError  # the class
        self._handles: dict[str, t.Any] = {}

    def close(self) -> None:
        """Close all handles."""
        for netns in list(self._handles):
            self._close(netns)

    def apply(self, step: Step) -> None:
        """Carry out one step. Raises KernelError."""
        try:
            getattr(self, "_" + step.op)(step)
        except self._netlink_error as exc:
            raise KernelError(f"{step.text}: {os.strerror(exc.code)}") from exc
        except command.CommandError as exc:  # nft itself names the line that it refuses, of hundreds perhaps
            raise KernelError(f"{step.text.splitlines()[0]}: {exc.reason}") from exc
        except OSError as exc:
            raise KernelError(f"{step.text.splitlines()[0]}: {exc.strerror or exc}") from exc

    def _netns_add(self, step: Step) -> None:
        namespaces.create(step.args["name"])

    def _netns_del(self, step: Step) -> None:
        self._close(step.args["name"])  # an open handle would keep the namespace alive
        namespaces.remove(step.args["name"])

    def _link_up(self, step: Step) -> None:
        self._link(step, "set", state="up")

    def _link_down(self, step: Step) -> None:
        self._link(step, "set", state="down")

    def _link_mac(self, step: Step) -> None:
        self._link(step, "set", address=step.args["mac"])

    def _link_mtu(self, step: Step) -> None:
        self._link(step, "set", mtu=step.args["mtu"])

    def _link_master(self, step: Step) -> None:
        self._link(step, "set", master=self._index(step.netns, step.args["master"]))

    def _link_nomaster(self, step: Step) -> None:
        self._link(step, "set", master=0)

    def _link_del(self, step: Step) -> None:
        self._link(step, "del")

    def _veth_add(self, step: Step) -> None:
        args = step.args
        peer = {"ifname": args["peer"]}
        if args["peer_netns"]:
            peer["net_ns_fd"] = args["peer_netns"]
        peer.update(_given(address=args["peer_mac"], mtu=args["peer_mtu"]))
        attributes = _given(address=args["mac"], mtu=args["mtu"])
        # A pair deleted with its namespace a moment ago may still hold the name: the kernel tears it down in its
        # own time (10 to 60 ms measured).
        deadline = time.monotonic() + 2
        while True:
            try:
                self._handle(step.netns).link("add", ifname=args["dev"], kind="veth", peer=peer, **attributes)
                return
            except self._netlink_error as exc:
                if exc.code != errno.EEXIST or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _bridge_add(self, step: Step) -> None:
        attributes = _given(address=step.args["mac"], mtu=step.args["mtu"])
        handle = self._handle(step.netns)
        handle.link(
            "add", ifname=step.args["dev"], kind="bridge", br_mcast_snooping=step.args["snooping"], **attributes
        )

    def _bridge_snooping(self, step: Step) -> None:
        self._link(step, "set", kind="bridge", br_mcast_snooping=step.args["snooping"])

    def _port_set(self, step: Step) -> None:
        flags = {"unicast_flood": int(step.args["flood"] == "on"), "learning": int(step.args["learning"] == "on")}
        self._handle(step.netns).brport("set", index=self._index(step.netns, step.args["dev"]), **flags)

    def _port_suppress(self, step: Step) -> None:
        self._handle(step.netns).brport("set", index=self._index(step.netns, step.args["dev"]), neigh_suppress=1)

    def _addr_add(self, step: Step) -> None:
        self._addr(step, "add")

    def _addr_add_shared(self, step: Step) -> None:
        lifetime = {"ifa_preferred": 0, "ifa_valid": FOREVER, "cstamp": 0, "tstamp": 0}
        self._addr(step, "add", IFA_FLAGS=IFA_F_NODAD, IFA_CACHEINFO=lifetime)

    def _addr_del(self, step: Step) -> None:
        self._addr(step, "del")

    def _route_add(self, step: Step) -> None:
        self._route(step, "add")

    def _route_replace(self, step: Step) -> None:
        self._route(step, "replace")

    def _route_del(self, step: Step) -> None:
        self._route(step, "del")

    def _neigh_replace(self, step: Step) -> None:
        self._neigh(step, "replace", lladdr=step.args["lladdr"], state=rtnetlink.NUD_PERMANENT)

    def _neigh_del(self, step: Step) -> None:
        self._neigh(step, "del")

    def _proxy_add(self, step: Step) -> None:
        self._neigh(step, "add", flags=rtnetlink.NTF_PROXY)

    def _proxy_del(self, step: Step) -> None:
        self._neigh(step, "del", flags=rtnetlink.NTF_PROXY)

    def _fdb_replace(self, step: Step) -> None:
        self._fdb(step, "replace", state=rtnetlink.NUD_NOARP)

    def _fdb_del(self, step: Step) -> None:
        self._fdb(step, "del")

    def _maddr_add(self, step: Step) -> None:
        self._multicast(step, SIOCADDMULTI)

    def _maddr_del(self, step: Step) -> None:
        self._multicast(step, SIOCDELMULTI)

    def _sysctl(self, step: Step) -> None:
        with namespaces.within(step.netns):
            sysctl.write(step.args["key"], step.args["value"])

    def _ip(self, step: Step) -> None:
        with namespaces.within(step.netns):
            command.run([step.op, *step.args["words"]])

    _tc = _ip

    def _nft(self, step: Step) -> None:
        with namespaces.within(step.netns):
            nft.run(step.args["lines"])

    def _iptables(self, step: Step) -> None:
        with namespaces.within(step.netns):
            iptables.run(step.args["tool"], step.args["lines"])

    def _command(self, step: Step) -> None:
        command.run(step.args["words"], timeout=30)

    def _file(self, step: Step) -> None:
        path, new = step.args["path"], f"{step.args['path']}.new"
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        with open(new, "w", encoding="utf-8", errors="surrogateescape") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(step.args["content"])
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)

    def _file_remove(self, step: Step) -> None:
        os.unlink(step.args["path"])

    def _clusterip_node(self, step: Step) -> None:
        with namespaces.within(step.netns):
            iptables.change_clusterip_node(step.args["address"], step.args["change"])

    # --- netlink requests --------------------------------------------------------------------------------------------

    def _handle(self, netns: str) -> t.Any:
        if netns not in self._handles:
            with namespaces.within(netns):
                self._handles[netns] = self._open()
        return self._handles[netns]

    def _close(self, netns: str) -> None:
        handle = self._handles.pop(netns, None)
        if handle is not None:
            handle.close()

    def _index(self, netns: str, name: str) -> int:
        with namespaces.within(netns):
            return socket.if_nametoindex(name)

    def _link(self, step: Step, verb: str, **attributes: t.Any) -> None:
        self._handle(step.netns).link(verb, index=self._index(step.netns, step.args["dev"]), **attributes)

    def _addr(self, step: Step, verb: str, **attributes: t.Any) -> None:
        ip, length = step.args["address"].split("/")
        # A prefix length on its own, without a broadcast address: as iproute2 does it.
        self._handle(step.netns).addr(
            verb,
            index=self._index(step.netns, step.args["dev"]),
            address=ip,
            prefixlen=int(length),
            family=_family(ip),
            **attributes,
        )

    def _route(self, step: Step, verb: str) -> None:
        args = step.args
        proto = args["proto"]
        self._handle(step.netns).route(
            verb,
            dst=args["dst"],
            family=_family(args["dst"]),
            oif=self._index(step.netns, args["dev"]),
            table=rtnetlink.RT_TABLE_MAIN,
            proto=PROTOCOLS.get(proto, proto),
            scope=253 if _family(args["dst"]) == socket.AF_INET and not args.get("via") else 0,  # link, universe
            **_given(gateway=args.get("via"), prefsrc=args.get("src")),
        )

    def _neigh(self, step: Step, verb: str, **attributes: t.Any) -> None:
        ip = step.args["address"]
        index = self._index(step.netns, step.args["dev"])
        self._handle(step.netns).neigh(verb, dst=ip, family=_family(ip), ifindex=index, **attributes)

    def _multicast(self, step: Step, request: int) -> None:
        # struct ifreq: a name, and a struct sockaddr of the family AF_UNSPEC with the MAC address.
        mac = bytes.fromhex(step.args["mac"].replace(":", ""))
        ifreq = struct.pack("16sH14s8x", step.args["dev"].encode(), socket.AF_UNSPEC, mac)
        with namespaces.within(step.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, request, ifreq)

    def _fdb(self, step: Step, verb: str, **attributes: t.Any) -> None:
        index = self._index(step.netns, step.args["dev"])
        self._handle(step.netns).fdb(verb, ifindex=index, lladdr=step.args["mac"], flags=NTF_MASTER, **attributes)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _given(**attributes: t.Any) -> dict[str, t.Any]:
    return {k: v for k, v in attributes.items() if v is not None}
