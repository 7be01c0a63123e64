# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Common parts of the ring tests: hosts of a lab that share an address, and many clients in one of its namespaces."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import socket
import subprocess
import threading
import time
import typing as t
from pathlib import Path

from integration.world import within

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket

from .cluster import ADDRESS, INSTANCES, wait_until
from .hosts import Hosts

PLAYBOOKS = Path(__file__).parents[2] / "playbooks"
NET = "198.18.0"  # the many clients', behind c1
WEB = 80
ETH_P_ALL = 3
TOTAL = 256
TABLE = "clustered_openvpn_vpn"
UNITS = ("clustered-openvpn-vrrp@vpn", "clustered-openvpn-claims@vpn")
# The page of a web server is the name of its host.
SERVE = (
    "hostname >/var/www/html/index.html && rm -f /var/www/html/index.nginx-debian.html"
    f" && ip route replace {NET}.0/24 via 203.0.113.101 && systemctl restart nginx"
)


class Ring(Hosts):
    """A lab with hosts that share an address, and its clients."""

    def __init__(self, what: str, directory: Path, hosts: int, clients: int, members: int, **variables: t.Any):
        super().__init__(what, directory, hosts, clients)
        self.members = members
        self.hosts = [host.name for host in self.lab.hosts()]
        self.variables: dict[str, t.Any] = {
            "clusterip_cluster_interface": "eth0",
            "clusterip_cluster_address": ADDRESS,
            "clusterip_cluster_members": members,
            "clusterip_cluster_instances": INSTANCES,
            "openvpn_server_keepalive_interval": 1,
            "openvpn_server_keepalive_timeout": 5,
            "pki_directory": str(self.pki),
            "pki_clients": [{"name": f"c{i + 1}"} for i in range(clients)],
            **variables,
        }
        # Hosts without packages and certificates yet. These take most of a run's time, so later runs skip them.
        self._new = set(self.hosts)
        self.sources = [f"{NET}.{number}" for number in range(1, 201)]
        self.clients[0].run("sh", "-c", "".join(f"ip addr add {source}/32 dev lo; " for source in self.sources))
        for host in self.hosts:
            self.run_on(host, SERVE)

    def enlist(self, *hosts: str) -> None:
        """Reduce the inventory, and so the cluster, to these hosts."""
        self.hosts = list(hosts)
        inventory = self.lab.inventory()
        group = inventory["all"]["children"]["clustered_openvpn"]
        group["hosts"] = {host: group["hosts"][host] for host in hosts}
        (self.directory / "hosts.json").write_text(json.dumps(inventory, default=str))

    def netns(self, short: str) -> str:
        """A namespace of the lab."""
        return f"lab-{self.lab.name}-{short}"

    def play(self, playbook: str = "many_hosts.yml", *args: str, **variables: t.Any) -> tuple[int, str]:
        """Run a playbook: its exit status and its output."""
        given = self.directory / "vars.json"
        new = f"{{{{ inventory_hostname in {sorted(self._new)} }}}}"
        parts = {"clusterip_cluster_prerequisites": new, "clusterip_cluster_pki": new}
        given.write_text(json.dumps({**self.variables, **parts, **variables}))
        done = subprocess.run(
            ["ansible-playbook", "-i", self.directory / "hosts.json", "-e", f"@{given}", *args, PLAYBOOKS / playbook],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        if done.returncode == 0 and not args:
            self._new -= set(self.hosts)
        return done.returncode, done.stdout + done.stderr

    def converge(self, playbook: str = "many_hosts.yml", *args: str, **variables: t.Any) -> str:
        """Run a playbook, which must succeed: its output."""
        status, output = self.play(playbook, *args, **variables)
        assert status == 0, output[-6000:]
        return output

    def changed(self, output: str) -> dict[str, int]:
        """Host -> number of changed tasks in the output of a playbook."""
        return {host: int(count) for host, count in re.findall(r"^(h\d+) .*changed=(\d+) ", output, re.M)}

    def wait_until_active(self, host: str, *units: str) -> None:
        """Wait until units of a host are active."""
        show = f"systemctl show --property ActiveState --value {' '.join(units)}"
        wait_until(lambda: set(self.run_on(host, show).split()) == {"active"}, 30, f"{units} are active on {host}")

    # --- owners ---------------------------------------------------------------------------------------------------

    def claims(self) -> dict[str, dict[int, str]]:
        """Host -> bucket -> member, from the kernel of each host; "" for the host itself."""
        found = {}
        kind = ("set", "owned") if not self.members else ("map", "owner")
        for host in self.hosts:
            listing = ["nft", "-j", "list", kind[0], "netdev", TABLE, kind[1]]
            done = subprocess.run(
                ["ip", "netns", "exec", self.netns(host), *listing], capture_output=True, text=True, check=False
            )
            found[host] = {}
            if done.returncode == 0:
                (one,) = (entry[kind[0]] for entry in json.loads(done.stdout)["nftables"] if kind[0] in entry)
                pairs = ([e, ""] if isinstance(e, int) else e for e in one.get("elem", []))
                found[host] = {int(number): mac for number, mac in pairs}
        return found

    def owners(self) -> dict[int, list[str]]:
        """Bucket -> the hosts that own it."""
        result: dict[int, list[str]] = {number: [] for number in range(1, TOTAL + 1)}
        for host, mine in self.claims().items():
            for number in mine:
                result[number].append(host)
        return result

    def wait_until_owned(self, seconds: float, hosts: t.Sequence[str] | None = None) -> dict[int, str]:
        """Wait until each bucket has one owner among these hosts: bucket -> host."""
        end = time.monotonic() + seconds
        while True:
            owners = self.owners()
            if all(len(by) == 1 and (hosts is None or by[0] in hosts) for by in owners.values()):
                return {number: by[0] for number, by in owners.items()}
            bad = {number: by for number, by in owners.items() if len(by) != 1}
            assert time.monotonic() < end, f"after {seconds} s: {bad}"
            time.sleep(0.05)

    # --- clients --------------------------------------------------------------------------------------------------

    def get(self, source: str, seconds: float = 3, port: int = WEB) -> str | None:
        """The host that serves a client's web page; None without an answer."""
        with within(self.netns("c1")):
            connection = http.client.HTTPConnection(ADDRESS, port, timeout=seconds, source_address=(source, 0))
            with contextlib.closing(connection):
                try:
                    connection.request("GET", "/")
                    return connection.getresponse().read().decode().strip()
                except OSError:
                    return None

    def seconds_until_served(
        self, sources: t.Iterable[str], hosts: t.Collection[str], since: float, bound: float
    ) -> dict[str, float]:
        """Client -> seconds from a moment until one of these hosts served its page; with retries."""
        waiting, found = list(sources), {}
        while waiting:
            for source in list(waiting):
                if self.get(source, 0.2) in hosts:
                    found[source] = time.monotonic() - since
                    waiting.remove(source)
            assert time.monotonic() < since + bound, f"after {bound} s, not served: {waiting}"
        return found

    @contextlib.contextmanager
    def split(self, host: str) -> t.Iterator[None]:
        """Split the network: a host on one side, all others on the other. c1 reaches both sides."""
        others = ", ".join(f'"{one}"' for one in self.hosts if one != host)
        rules = f"""
            table bridge split {{
                chain forward {{
                    type filter hook forward priority 0
                    iifname "{host}" oifname {{ {others} }} drop
                    iifname {{ {others} }} oifname "{host}" drop
                }}
            }}
        """
        in_switch = ["ip", "netns", "exec", self.netns("switch"), "nft"]
        subprocess.run([*in_switch, "-f", "-"], input=rules, text=True, check=True)
        try:
            yield
        finally:
            subprocess.run([*in_switch, "delete", "table", "bridge", "split"], check=True)

    def pinging(self, sources: t.Iterable[str]) -> Pings:
        """Start continuous pings of the service address."""
        return Pings(self.netns("c1"), sources)


class Pings:
    """Continuous pings from some of c1's addresses."""

    def __init__(self, netns: str, sources: t.Iterable[str]):
        def start(source: str) -> subprocess.Popen[str]:
            ping = ("ping", "-n", "-q", "-i", "0.1", "-W", "2", "-I", source, ADDRESS)
            return subprocess.Popen(["ip", "netns", "exec", netns, *ping], stdout=subprocess.PIPE, text=True)

        self._running = {source: start(source) for source in sources}
        for process in self._running.values():
            comm = Path(f"/proc/{process.pid}/comm")
            wait_until(lambda comm=comm: comm.read_text() == "ping\n", 20, "ping has begun")
        self._began = time.monotonic()

    def lost(self) -> dict[str, str]:
        """Stop the pings: source -> output of each that lost or duplicated a packet. Each must have sent some."""
        result = {}
        time.sleep(
            max(0.0, self._began + 2 - time.monotonic())
        )  # some must have been sent, however short the fault was
        for process in self._running.values():
            process.send_signal(signal.SIGINT)
        for source, process in self._running.items():
            output = process.communicate(timeout=20)[0]
            sent, received = (int(n) for n in re.findall(r"(\d+) packets transmitted, (\d+) received", output)[0])
            assert sent > 5, output
            # The reply to the last ping may still be in flight.
            if sent - received > 1 or "duplicates" in output:
                result[source] = output
        return result


class Sampler(threading.Thread):
    """Reads all hosts' claims continuously, and measures how long a bucket had no owner, or two."""

    def __init__(self, ring: Ring):
        super().__init__(daemon=True)
        self._ring = ring
        self._ended = threading.Event()
        self.longest = {"unowned": 0.0, "doubly owned": 0.0}
        self.pause = 0.0  # the longest time between two looks

    def run(self) -> None:
        """Sample until C(end) is called."""
        since: dict[tuple[int, str], float] = {}
        before = time.monotonic()
        while not self._ended.is_set():
            owners = self._ring.owners()
            time.sleep(0.02)  # or it would use a whole core
            now = time.monotonic()
            self.pause = max(self.pause, now - before)
            before = now
            for number, by in owners.items():
                for state, holds in (("unowned", not by), ("doubly owned", len(by) > 1)):
                    began = since.pop((number, state), now)
                    if holds:
                        since[number, state] = began
                    self.longest[state] = max(self.longest[state], now - began)

    def end(self) -> dict[str, float]:
        """Stop, and return the longest times in seconds."""
        self._ended.set()
        self.join()
        return self.longest


class Capture:
    """Captures frames to c1 at its switch port: the MAC addresses that answer each connection."""

    def __init__(self, ring: Ring):
        with within(ring.netns("switch")):
            # All protocols: a socket for one protocol does not capture outgoing frames.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self._socket.bind(("c1", ETH_P_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        self._socket.setblocking(False)

    def __enter__(self) -> Capture:
        return self

    def __exit__(self, *exc_info: t.Any) -> None:
        self._socket.close()

    def answers(self) -> dict[tuple[str, int, int], set[str]]:
        """(client, its port, the service's port) -> MAC addresses that answered from the service address."""
        found: dict[tuple[str, int, int], set[str]] = {}
        with contextlib.suppress(BlockingIOError):
            while True:
                frame = self._socket.recv(65536)
                packet = frame[14:]
                if (
                    frame[12:14] != b"\x08\x00"
                    or packet[9] not in (1, 6, 17)
                    or socket.inet_ntoa(packet[12:16]) != ADDRESS
                ):
                    continue
                ports = packet[20:24] if packet[9] != 1 else b"\0\0\0\0"
                key = (
                    socket.inet_ntoa(packet[16:20]),
                    int.from_bytes(ports[2:4], "big"),
                    int.from_bytes(ports[:2], "big"),
                )
                found.setdefault(key, set()).add(frame[6:12].hex(":"))
        return found


def bucket_of(source: str) -> int:
    """The bucket of a client, predicted by the filter."""
    return bucket(source, TOTAL, 0)
