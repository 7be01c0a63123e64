# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A world whose modules start without delay, for tests with many runs; and its state as text, for comparison."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
import typing as t
from pathlib import Path

from .world import MODULE_PYTHON, ModuleFailed, World

SERVER = Path(__file__).parent / "module_server.py"


class Killed(Exception):
    """The module was killed, as requested."""


class ServedWorld(World):
    """A world with a server of modules on its host: C(module_server.py). End it with C(remove)."""

    _server: subprocess.Popen[str] | None = None

    def module(
        self,
        module: str,
        /,
        *,
        check: bool = False,
        deadline: float | None = None,
        alone: bool = False,
        **args: t.Any,
    ) -> dict[str, t.Any]:
        """Run a module as C(World.module) does. Raises ModuleFailed; Killed when it still ran at the deadline.

        deadline: the time.monotonic() at which it is killed, with the programs that it has started, or alone.
        """
        args.update(_ansible_check_mode=check, _ansible_diff=True)
        output = Path(self._ansible.name, "output")
        server = self._started()
        assert server.stdin is not None
        server.stdin.write(json.dumps({"module": module, "args": args, "output": str(output)}) + "\n")
        server.stdin.flush()
        pid = int(self._answer())
        killed = False
        if deadline is not None and not self._answers_until(deadline):
            killed = True
            with contextlib.suppress(ProcessLookupError):  # it may have ended just now
                (os.kill if alone else os.killpg)(pid, signal.SIGKILL)
        status = int(self._answer())
        if killed and os.WIFSIGNALED(status):
            _wait_for_orphans(pid)
            raise Killed
        try:
            result = json.loads(output.read_text())
        except ValueError as exc:
            raise AssertionError(f"{module}: no JSON, status {status}: {output.read_text()}") from exc
        if result.get("failed"):
            raise ModuleFailed(result["msg"])
        return result

    def remove(self) -> None:
        """Remove the world, after its server."""
        if self._server is not None:
            self._server.kill()
            self._server.communicate()
            self._server = None
        super().remove()

    def _started(self) -> subprocess.Popen[str]:
        if self._server is None:
            self._server = subprocess.Popen(
                [*self.enter, MODULE_PYTHON, str(SERVER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
                env=self._environment,
            )
        return self._server

    def _answer(self) -> str:
        server = self._started()
        assert server.stdout is not None
        # Byte by byte: select() does not see data in a buffer of ours.
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(server.stdout.fileno(), 1)
            assert byte, "the server of modules has ended"
            line += byte
        return line.decode()

    def _answers_until(self, deadline: float) -> bool:
        left = max(0.0, deadline - time.monotonic())
        return bool(select.select([self._started().stdout], [], [], left)[0])


def _wait_for_orphans(group: int) -> None:
    """Wait for programs that the module has started, in its process group, to end by themselves."""
    end = time.monotonic() + 10
    while any(_runs(path, group) for path in Path("/proc").glob("[0-9]*/stat")):
        assert time.monotonic() < end, f"process group {group} does not end"
        time.sleep(0.001)


def _runs(stat: Path, group: int) -> bool:
    """Whether it is a running process of this group, not a zombie."""
    try:
        state, _parent, its_group = stat.read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return False
    return int(its_group) == group and state not in "ZX"


# --- state ------------------------------------------------------------------------------------------------------------

State = dict[str, list[str]]

_BRIDGE_KEYS = ("mcast_snooping", "stp_state", "ageing_time", "vlan_filtering", "forward_delay")
_PORT_KEYS = (
    *("flood", "learning", "hairpin", "guard", "fastleave", "mcast_flood", "bcast_flood", "isolated"),
    *("neigh_suppress", "mcast_to_unicast", "cost", "priority", "locked"),
)
FOREVER = 2**32 - 1  # an address's lifetime without an end
SHOW = """
ip -j -d addr; echo; ip -j -d -4 route show table all; echo; ip -j -d -6 route show table all; echo
ip -j neigh show nud permanent; echo; ip -j neigh show proxy; echo; bridge -j fdb; echo
cd /proc/sys/net && grep -rHs . ipv4/conf ipv6/conf ipv4/neigh ipv6/neigh ipv4/ip_forward ipv4/ping_group_range
echo ---; nft list ruleset
"""


def states_of(netnses: t.Iterable[str], macs: t.Collection[str] = ()) -> State:
    """The state of these namespaces as lines. C(macs): the MAC addresses to keep; others are chosen by the kernel."""
    running = {
        netns: subprocess.Popen(
            ["nsenter", f"--net=/run/netns/{netns}", "bash", "-c", SHOW], stdout=subprocess.PIPE, text=True
        )
        for netns in netnses
    }
    shown = {netns: process.communicate(timeout=30)[0] for netns, process in running.items()}
    assert not any(process.returncode for process in running.values())
    return {netns: lines_of(text, macs) for netns, text in shown.items()}


def lines_of(shown: str, macs: t.Collection[str]) -> list[str]:
    """The output of SHOW in a namespace, as lines."""
    decoder = json.JSONDecoder()
    lists = []
    for _list in range(6):
        shown = shown.lstrip()
        if shown.startswith(("[", "{")):
            found, end = decoder.raw_decode(shown)
            shown = shown[end:]
        else:
            found = []
        lists.append(found)
    links, routes, routes6, neighbours, proxies, fdb = lists
    sysctls, ruleset = shown.split("---\n")
    lines = [line for link in links if link for line in _link_lines(link, macs)]
    lines += [f"route {_route(r)}" for r in [*routes, *routes6] if not _by_the_kernel_alone(r)]
    lines += [f"neighbour {n['dst']} {n['dev']} {n['lladdr']}" for n in neighbours if "lladdr" in n]
    lines += [f"proxy {n['dst']} {n['dev']}" for n in proxies]
    lines += [f"fdb {e['mac']} {e['ifname']} {e.get('master')}" for e in fdb if e.get("state") == "static"]
    lines += [f"sysctl {line}" for line in sysctls.strip().splitlines() if "stable_secret" not in line]
    # The record of the host's sysctls is lost with the tables.
    ruleset = "".join(line for line in ruleset.splitlines(True) if '\taccept comment "net/' not in line)
    # The order of tables is that of their creation.
    tables = sorted(ruleset.removesuffix("}\n").split("\n}\n")) if ruleset else []
    return [*sorted(lines), *(line for table in tables for line in table.splitlines())]


def _link_lines(link: dict[str, t.Any], macs: t.Collection[str]) -> t.Iterator[str]:
    info = link.get("linkinfo", {})
    name, mac = link["ifname"], link.get("address")
    own = {k: info.get("info_data", {}).get(k) for k in _BRIDGE_KEYS} if info.get("info_kind") == "bridge" else {}
    port = {k: info.get("info_slave_data", {}).get(k) for k in _PORT_KEYS} if "info_slave_kind" in info else {}
    yield (
        f"link {name} {info.get('info_kind')} {mac if mac in macs else '-'} {link['mtu']}"
        f" {'up' if 'UP' in link['flags'] else 'down'} {link.get('master')} {link.get('link')} {own} {port}"
    )
    for address in link["addr_info"]:
        if address["scope"] != "link" or address["family"] == "inet":
            keys = ("local", "prefixlen", "address", "broadcast", "scope", "secondary", "metric")
            shown = {k: address.get(k) for k in keys}
            lasting = address.get("valid_life_time", FOREVER) == FOREVER  # the rest of a lifetime passes by itself
            yield f"address {name} {shown} {'lasting' if lasting else 'limited'}"


def _route(route: dict[str, t.Any]) -> str:
    known = (
        *("type", "dst", "gateway", "dev", "table", "protocol", "scope", "prefsrc", "metric", "src", "tos"),
        *("nexthops", "multipath"),
    )
    return str({k: route[k] for k in known if k in route})


def _by_the_kernel_alone(route: dict[str, t.Any]) -> bool:
    """Whether it is an IPv6 route that the kernel creates by itself, with a delay: link-local, multicast, local."""
    own = ":" in route["dst"] and route.get("type") in ("local", "anycast", "multicast")
    return own or route["dst"].startswith(("fe80", "ff00", "multicast"))


def differences(one: State, other: State) -> list[str]:
    """The lines that only one state has (-), and only the other (+)."""
    found = []
    for netns in sorted({*one, *other}):
        here, there = one.get(netns, ["does not exist"]), other.get(netns, ["does not exist"])
        if here != there:
            left, right = set(here), set(there)
            lines = [f"{netns}: - {line}" for line in here if line not in right]
            lines += [f"{netns}: + {line}" for line in there if line not in left]
            found += lines or [f"{netns}: the same in another order"]
    return found


def differences_at_last(one: t.Callable[[], State], other: t.Callable[[], State], seconds: float = 3) -> list[str]:
    """The same, repeated until equal: the kernel creates IPv6 routes when a link has a carrier."""
    end, pause = time.monotonic() + seconds, 0.05
    while (found := differences(one(), other())) and time.monotonic() < end:
        time.sleep(pause)
        pause *= 2  # reading the state costs more than a short pause
    return found
