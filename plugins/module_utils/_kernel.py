# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel, by netlink: observe namespaces, apply steps. The only file that talks pyroute2.

It knows no policy: what ought to be is decided by the pure planners. Works with pyroute2 0.7.2 and 0.9.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
import traceback
import typing as t

from ansible_collections.clustered.openvpn.plugins.module_utils import _nft
from ansible_collections.clustered.openvpn.plugins.module_utils._observed import Link, Route, View
from ansible_collections.clustered.openvpn.plugins.module_utils._plan import Step

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


RUN_NETNS = "/run/netns"
# linux/neighbour.h, linux/if.h, linux/rtnetlink.h
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
NTF_MASTER, NTF_PROXY = 0x04, 0x08
IFF_UP = 1
RT_TABLE_MAIN = 254
AF_BRIDGE = 7
PROTOCOLS = {"static": 4}
PARTS = ("addresses", "routes", "neighbours", "fdb")  # of a link; each is one more request


class KernelError(Exception):
    """A step failed. The message has the command and the kernel's reason."""


class Kernel:
    """Netlink handles, one a namespace, opened once and closed with the object (a context manager)."""

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
        _netns.setns(netns, flags=0)  # without flags=0 a mistyped name would be created
        try:
            yield
        finally:
            _netns.setns(self._home)

    # --- observe -----------------------------------------------------------------------------------------------------

    def observe(
        self,
        netnses: t.Iterable[str],
        parts: t.Collection[str] = PARTS,
        sysctls: t.Mapping[str, t.Iterable[str]] | None = None,
        proxies: t.Iterable[tuple[str, str]] = (),
    ) -> dict[str, View]:
        """See namespaces: their links, and those parts of them that are asked for. One that does not exist says so.

        sysctls: namespace -> the keys to read there. proxies: the proxy entries to look for, as (interface, address),
        one by one, since pyroute2 has no way to list them.
        """
        keys = sysctls or {}
        return {
            netns: self._observe(netns, parts, keys.get(netns, ()), tuple(proxies)) for netns in sorted(set(netnses))
        }

    def _observe(
        self, netns: str, parts: t.Collection[str], keys: t.Iterable[str], asked: t.Iterable[tuple[str, str]]
    ) -> View:
        if netns and not is_namespace(netns):
            return View(netns)
        ipr = self._handle(netns)
        raw = {msg["index"]: msg for msg in ipr.get_links()}
        names = {index: msg.get_attr("IFLA_IFNAME") for index, msg in raw.items()}
        addresses: dict[int, set[str]] = {}
        for msg in ipr.get_addr() if "addresses" in parts else ():
            ip = msg.get_attr("IFA_LOCAL") or msg.get_attr("IFA_ADDRESS")
            addresses.setdefault(msg["index"], set()).add(f"{ip}/{msg['prefixlen']}")
        routes: dict[int, dict[int, set[Route]]] = {}
        for msg in ipr.get_routes(family=socket.AF_UNSPEC, table=RT_TABLE_MAIN) if "routes" in parts else ():
            if msg.get_attr("RTA_TABLE") == RT_TABLE_MAIN and msg.get_attr("RTA_OIF") is not None:
                by_proto = routes.setdefault(msg.get_attr("RTA_OIF"), {})
                by_proto.setdefault(msg["proto"], set()).add(_route(msg))
        neighbours: dict[int, dict[str, str]] = {}
        for msg in ipr.get_neighbours() if "neighbours" in parts else ():
            if msg["state"] & NUD_PERMANENT and msg.get_attr("NDA_LLADDR"):
                neighbours.setdefault(msg["ifindex"], {})[msg.get_attr("NDA_DST")] = msg.get_attr("NDA_LLADDR")
        fdb: dict[int, set[str]] = {}
        for msg in ipr.get_neighbours(family=AF_BRIDGE) if "fdb" in parts else ():
            if msg["state"] & NUD_NOARP and msg.get_attr("NDA_MASTER") is not None:
                fdb.setdefault(msg["ifindex"], set()).add(msg.get_attr("NDA_LLADDR"))
        links = {}
        for index, msg in raw.items():
            info = msg.get_attr("IFLA_LINKINFO")
            kind = info.get_attr("IFLA_INFO_KIND") if info else None
            data = info.get_attr("IFLA_INFO_DATA") if info and kind == "bridge" else None
            port = info.get_attr("IFLA_INFO_SLAVE_DATA") if info and msg.get_attr("IFLA_MASTER") else None
            links[names[index]] = Link(
                name=names[index],
                kind=kind,
                index=index,
                mac=msg.get_attr("IFLA_ADDRESS"),
                mtu=msg.get_attr("IFLA_MTU"),
                up=bool(msg["flags"] & IFF_UP),
                master=names.get(msg.get_attr("IFLA_MASTER")),
                peer_index=msg.get_attr("IFLA_LINK") if kind == "veth" else None,
                mcast_snooping=bool(data.get_attr("IFLA_BR_MCAST_SNOOPING")) if data else None,
                flood=_port_flag(port, "IFLA_BRPORT_UNICAST_FLOOD"),
                learning=_port_flag(port, "IFLA_BRPORT_LEARNING"),
                addresses=frozenset(addresses.get(index, ())),
                routes={proto: frozenset(found) for proto, found in routes.get(index, {}).items()},
                neighbours=neighbours.get(index, {}),
                proxies=frozenset(ip for dev, ip in asked if dev == names[index] and self._is_proxy(netns, index, ip)),
                fdb=frozenset(fdb.get(index, ())),
            )
        with self.within(netns):
            values = {key: value for key, value in ((k, _read_sysctl(k)) for k in keys) if value is not None}
        return View(netns, True, links, values)

    def tables(
        self, keys: t.Iterable[tuple[str, str, str]], views: t.Mapping[str, View]
    ) -> dict[tuple[str, str, str], list[dict[str, t.Any]] | None]:
        """nft tables, named as (netns, family, table); None for one that is not there."""
        result: dict[tuple[str, str, str], list[dict[str, t.Any]] | None] = {}
        for netns, family, table in keys:
            result[netns, family, table] = None
            if views[netns].exists:
                with self.within(netns):
                    result[netns, family, table] = _nft.list_table(family, table)
        return result

    # --- apply -------------------------------------------------------------------------------------------------------

    def apply(self, steps: t.Iterable[Step]) -> None:
        """Do the steps in their order; the first that fails ends it."""
        for step in steps:
            try:
                getattr(self, "_" + step.op)(step)
            except NetlinkError as exc:
                raise KernelError(f"{step.text}: {os.strerror(exc.code)}") from exc
            except OSError as exc:
                raise KernelError(f"{step.text}: {exc.strerror or exc}") from exc

    def _netns_add(self, step: Step) -> None:
        _netns.create(step.args["name"])

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

    def _addr_add(self, step: Step) -> None:
        self._addr(step, "add")

    def _addr_del(self, step: Step) -> None:
        self._addr(step, "del")

    def _route_replace(self, step: Step) -> None:
        self._route(step, "replace")

    def _route_del(self, step: Step) -> None:
        self._route(step, "del")

    def _neigh_replace(self, step: Step) -> None:
        self._neigh(step, "replace", lladdr=step.args["lladdr"], state=NUD_PERMANENT)

    def _neigh_del(self, step: Step) -> None:
        self._neigh(step, "del")

    def _proxy_add(self, step: Step) -> None:
        self._neigh(step, "add", flags=NTF_PROXY)

    def _proxy_del(self, step: Step) -> None:
        self._neigh(step, "del", flags=NTF_PROXY)

    def _fdb_replace(self, step: Step) -> None:
        self._fdb(step, "replace", state=NUD_NOARP)

    def _fdb_del(self, step: Step) -> None:
        self._fdb(step, "del")

    def _sysctl(self, step: Step) -> None:
        with self.within(step.netns), open(sysctl_path(step.args["key"]), "w", encoding="ascii") as file:
            file.write(step.args["value"])

    def _nft(self, step: Step) -> None:
        with self.within(step.netns):
            _nft.run(step.args["lines"])

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
        found = self._handle(netns).link_lookup(ifname=name)
        if not found:
            raise OSError(errno.ENODEV, f"no interface {name}")
        return found[0]

    def _link(self, step: Step, verb: str, **attributes: t.Any) -> None:
        self._handle(step.netns).link(verb, index=self._index(step.netns, step.args["dev"]), **attributes)

    def _addr(self, step: Step, verb: str) -> None:
        ip, length = step.args["address"].split("/")
        # A prefix length on its own, without a broadcast address: as iproute2 does it.
        self._handle(step.netns).addr(
            verb,
            index=self._index(step.netns, step.args["dev"]),
            address=ip,
            prefixlen=int(length),
            family=_family(ip),
        )

    def _is_proxy(self, netns: str, index: int, ip: str) -> bool:
        try:
            return bool(self._handle(netns).neigh("get", dst=ip, family=_family(ip), ifindex=index, flags=NTF_PROXY))
        except NetlinkError as exc:
            if exc.code == errno.ENOENT:
                return False
            raise

    def _route(self, step: Step, verb: str) -> None:
        args = step.args
        proto = args["proto"]
        self._handle(step.netns).route(
            verb,
            dst=args["dst"],
            family=_family(args["dst"]),
            oif=self._index(step.netns, args["dev"]),
            table=RT_TABLE_MAIN,
            proto=PROTOCOLS.get(proto, proto),
            scope=253 if _family(args["dst"]) == socket.AF_INET and not args.get("via") else 0,  # link, universe
            **_given(gateway=args.get("via"), prefsrc=args.get("src")),
        )

    def _neigh(self, step: Step, verb: str, **attributes: t.Any) -> None:
        ip = step.args["address"]
        index = self._index(step.netns, step.args["dev"])
        self._handle(step.netns).neigh(verb, dst=ip, family=_family(ip), ifindex=index, **attributes)

    def _fdb(self, step: Step, verb: str, **attributes: t.Any) -> None:
        index = self._index(step.netns, step.args["dev"])
        self._handle(step.netns).fdb(verb, ifindex=index, lladdr=step.args["mac"], flags=NTF_MASTER, **attributes)


def is_namespace(netns: str) -> bool:
    """Whether C(ip netns) knows it: a file alone, left by a crash, is not a namespace."""
    try:
        path = os.path.join(RUN_NETNS, netns)
        return os.stat(path).st_dev == os.stat("/proc/self/ns/net").st_dev
    except FileNotFoundError:
        return False


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


def _port_flag(port: t.Any, name: str) -> bool:
    # The attributes of other kinds of masters (a bond's) are no port's: they have no such getter or no such name.
    value = port.get_attr(name) if hasattr(port, "get_attr") else None
    return True if value is None else bool(value)


def _route(msg: t.Any) -> Route:
    default = "0.0.0.0" if msg["family"] == socket.AF_INET else "::"
    dst = f"{msg.get_attr('RTA_DST') or default}/{msg['dst_len']}"
    return Route(dst, msg.get_attr("RTA_GATEWAY"), msg.get_attr("RTA_PREFSRC"))


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _given(**attributes: t.Any) -> dict[str, t.Any]:
    return {k: v for k, v in attributes.items() if v is not None}
