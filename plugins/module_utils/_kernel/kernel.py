# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel, by netlink: observe namespaces, apply steps. The only file that talks pyroute2.

It knows no policy: what ought to be is decided by the pure planners. Works with pyroute2 0.7.2 and 0.9, which make the
changes; C(_rtnl.py) and C(_links.py) do the looking.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import time
import traceback
import typing as t

from . import command, iptables, links, namespaces, nft, rtnetlink
from . import routing as _routing
from .observed import Host, Saved, View
from .steps import Step

PYROUTE2_IMPORT_ERROR: str | None = None
try:
    from pyroute2 import IPRoute
    from pyroute2 import netns as _netns
    from pyroute2.netlink.exceptions import NetlinkError
except ImportError:
    PYROUTE2_IMPORT_ERROR = traceback.format_exc()

    class NetlinkError(Exception):  # type: ignore[no-redef]
        """Stands in, so that this file can be imported to say what is missing."""

        code = 0


NTF_MASTER = 0x04  # linux/neighbour.h
IFA_F_NODAD, FOREVER = 0x02, 0xFFFFFFFF  # linux/if_addr.h
CLONE_NEWNET = 0x40000000  # linux/sched.h
PROTOCOLS = {"static": 4}
NFT_AT_ONCE = 8  # enough to keep processors busy; a process for each of many members at once would be too much
SIOCADDMULTI, SIOCDELMULTI = 0x8931, 0x8932  # linux/sockios.h: netlink has no word for this


_libc = ctypes.CDLL(None, use_errno=True)


class KernelError(Exception):
    """A step failed. The message has the command and the kernel's reason."""


class Kernel:
    """Netlink handles, one a namespace that is changed, opened once and closed with the object (a context manager)."""

    def __init__(self) -> None:
        self._home = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self._handles: dict[str, t.Any] = {}

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        for netns in list(self._handles):
            self._forget(netns)
        os.close(self._home)

    @contextlib.contextmanager
    def within(self, netns: str) -> t.Iterator[None]:
        """Be in a namespace for a moment: files under /proc/sys/net, sockets and child processes belong to it."""
        if not netns:
            yield
            return
        if not namespaces.exists(netns):
            raise FileNotFoundError(errno.ENOENT, "no such network namespace", netns)
        # By descriptor: for a name, pyroute2 lists all namespaces first, and makes one that is mistyped.
        there = os.open(namespaces.path(netns), os.O_RDONLY | os.O_CLOEXEC)
        try:
            _netns.setns(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _netns.setns(self._home)

    # --- observe -----------------------------------------------------------------------------------------------------

    def observe(
        self,
        netnses: t.Iterable[str],
        parts: t.Collection[str] = links.PARTS,
        sysctls: t.Mapping[str, t.Iterable[str]] | None = None,
        proxies: t.Iterable[tuple[str, str]] = (),
    ) -> dict[str, View]:
        """See namespaces: their links, and those parts of them that are asked for. One that does not exist says so.

        sysctls: namespace -> the keys to read there. proxies: the proxy entries to look for, as (interface, address),
        since those are of interest and others are not.
        """
        keys = sysctls or {}
        return {
            netns: self._observe(netns, parts, keys.get(netns, ()), tuple(proxies)) for netns in sorted(set(netnses))
        }

    def _observe(
        self, netns: str, parts: t.Collection[str], keys: t.Iterable[str], asked: t.Collection[tuple[str, str]]
    ) -> View:
        try:
            with self.within(netns), rtnetlink.Reader() as reader:
                values = {key: value for key, value in ((k, _read_sysctl(k)) for k in keys) if value is not None}
                return View(netns, True, links.observe(reader, parts, asked), values)
        except FileNotFoundError:
            return View(netns)

    def tables(
        self, keys: t.Iterable[tuple[str, str, str]], views: t.Mapping[str, View]
    ) -> dict[tuple[str, str, str], nft.Listing]:
        """nft tables, named as (netns, family, table); None for one that is not there."""
        result: dict[tuple[str, str, str], nft.Listing] = dict.fromkeys(keys)
        running: collections.deque[tuple[tuple[str, str, str], command.Process]] = collections.deque()
        try:
            for key in list(result):
                if views[key[0]].exists:
                    if len(running) >= NFT_AT_ONCE:
                        done, process = running.popleft()
                        result[done] = nft.listed(process)
                    # One that was deleted since has no tables.
                    with contextlib.suppress(FileNotFoundError), self.within(key[0]):
                        running.append((key, nft.start_listing(*key[1:])))
            while running:
                done, process = running.popleft()
                result[done] = nft.listed(process)
        finally:
            for _key, process in running:
                process.kill()
        return result

    def list_tables(self) -> list[tuple[str, str]]:
        """Family and name of every nft table of the host."""
        return nft.list_tables()

    def saved(self, netnses: t.Iterable[str], address: str = "") -> dict[str, Saved]:
        """What namespaces hold of iptables, and CLUSTERIP's nodes of an address; nothing for one that is none."""
        result = {}
        for netns in netnses:
            result[netns] = Saved()
            with contextlib.suppress(FileNotFoundError), self.within(netns):
                lines = {tool: iptables.saved(tool) for tool in (iptables.LEGACY, iptables.NFT)}
                result[netns] = Saved(lines, iptables.clusterip_nodes(address) if address else None)
        return result

    def abilities(self, families: t.Iterable[str]) -> Host:
        """What this kernel can do; families: those of nftables that are of interest."""
        known = frozenset(family for family in families if nft.has_family(family))
        return Host(os.uname().release, known, iptables.has_clusterip())

    def routing(self, netns: str, networks: t.Iterable[str] = ()) -> _routing.Seen:
        """tun devices, routing rules and routes of our protocol in a namespace; nothing, if it does not exist.

        C(networks): besides, whether others have routes to these.
        """
        try:
            with self.within(netns):
                return _routing.observe(networks)
        except FileNotFoundError:
            return _routing.Seen()

    # --- apply -------------------------------------------------------------------------------------------------------

    def apply(self, steps: t.Iterable[Step]) -> None:
        """Do the steps in their order; the first that fails ends it."""
        for step in steps:
            try:
                getattr(self, "_" + step.op)(step)
            except NetlinkError as exc:
                raise KernelError(f"{step.text}: {os.strerror(exc.code)}") from exc
            except command.CommandError as exc:  # the step's own text has the command
                # nft itself names the line that it refuses, of hundreds perhaps.
                raise KernelError(f"{step.text.splitlines()[0]}: {exc.reason}") from exc
            except OSError as exc:
                raise KernelError(f"{step.text.splitlines()[0]}: {exc.strerror or exc}") from exc

    def _netns_add(self, step: Step) -> None:
        name = step.args["name"]
        if os.path.exists(namespaces.path(name)) and not namespaces.exists(name):
            os.unlink(namespaces.path(name))  # a run that was killed left the file without its namespace
        # pyroute2's create() forks a process each time, which takes longer than all the rest. Here this thread goes
        # into a new namespace itself, attach() gives that its name as `ip netns add` does, and the thread comes home.
        if _libc.unshare(CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        try:
            _netns.attach(name, "thread-self")
        finally:
            _netns.setns(self._home)

    def _netns_del(self, step: Step) -> None:
        self._forget(step.args["name"])  # an open handle would keep the namespace alive
        _netns.remove(step.args["name"])

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
            except NetlinkError as exc:
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
        with self.within(step.netns), open(sysctl_path(step.args["key"]), "w", encoding="ascii") as file:
            file.write(step.args["value"])

    def _ip(self, step: Step) -> None:
        with self.within(step.netns):
            command.run([step.op, *step.args["words"]])

    _tc = _ip

    def _nft(self, step: Step) -> None:
        with self.within(step.netns):
            nft.run(step.args["lines"])

    def _iptables(self, step: Step) -> None:
        with self.within(step.netns):
            iptables.run(step.args["tool"], step.args["lines"])

    def _clusterip_node(self, step: Step) -> None:
        with self.within(step.netns):
            iptables.change_clusterip_node(step.args["address"], step.args["change"])

    # --- netlink requests --------------------------------------------------------------------------------------------

    def _handle(self, netns: str) -> t.Any:
        if netns not in self._handles:
            with self.within(netns):
                self._handles[netns] = IPRoute()
        return self._handles[netns]

    def _forget(self, netns: str) -> None:
        handle = self._handles.pop(netns, None)
        if handle is not None:
            handle.close()

    def _index(self, netns: str, name: str) -> int:
        with self.within(netns):
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
        with self.within(step.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, request, ifreq)

    def _fdb(self, step: Step, verb: str, **attributes: t.Any) -> None:
        index = self._index(step.netns, step.args["dev"])
        self._handle(step.netns).fdb(verb, ifindex=index, lladdr=step.args["mac"], flags=NTF_MASTER, **attributes)


def sysctl_path(key: str) -> str:
    """/proc/sys/…; as in sysctl(8), a key that is parted by slashes may hold dots in its names."""
    slash, dot = key.find("/"), key.find(".")
    return "/proc/sys/" + (key if slash >= 0 and (dot < 0 or slash < dot) else key.replace(".", "/"))


def _read_sysctl(key: str) -> str | None:
    try:
        with open(sysctl_path(key), encoding="ascii") as file:
            return " ".join(file.read().split())
    except FileNotFoundError:
        return None


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _given(**attributes: t.Any) -> dict[str, t.Any]:
    return {k: v for k, v in attributes.items() if v is not None}
