# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Two sites with a bundle of real tunnels between them: end A with a host behind it, a router, end B with a host.

host a ── end A ── router ── end B ── host b            10.1.0.0/24, fd01:1::/64 ── 192.0.2.0/24, 198.51.100.0/24 ──
10.1.0.9                     10.2.0.9                   10.2.0.0/24, fd01:2::/64
"""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import shutil
import socket
import tempfile
import threading
import time
import typing as t
from pathlib import Path

import jinja2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from ansible_collections.clustered.openvpn.plugins.filter.bundle import bundle_draining, bundle_layout
from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import spread, watch_process
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.management import (
    Management,
    ManagementError,
    ask,
)

from .world import World, call_here, sh, within

ROLE = Path(__file__).parents[2] / "roles/tunnel_bundle"
USER, GROUP = "nobody", "nogroup"
LATE = 0.5  # seconds
RUN = Path("/run/clustered-openvpn")
OUTER = ("192.0.2.1", "198.51.100.1")
SITES = (("10.1.0.0/24", "fd01:1::/64"), ("10.2.0.0/24", "fd01:2::/64"))
HOSTS = (("10.1.0.9", "fd01:1::9"), ("10.2.0.9", "fd01:2::9"))
OWN = (("10.99.0.1", "fd99::1"), ("10.99.0.129", "fd99::8000:0:0:1"))


def revocations(pki: Path) -> bytes:
    """An empty revocation list."""
    authority = x509.load_pem_x509_certificate((pki / "ca.crt").read_bytes())
    key = load_pem_private_key((pki / "ca.key").read_bytes(), None)
    now = datetime.datetime.now(datetime.timezone.utc)
    made = x509.CertificateRevocationListBuilder().issuer_name(authority.subject)
    made = made.last_update(now - datetime.timedelta(days=1)).next_update(now + datetime.timedelta(days=1))
    return made.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


class BundleLab(World):
    """Both ends of a bundle, their sites, and the steps of the role on them."""

    def __init__(self, prefix: str, pki: Path, **settings: t.Any):
        super().__init__(prefix)
        self.directory = Path(tempfile.mkdtemp(prefix=f"{prefix}-"))
        shutil.copytree(pki, self.directory, dirs_exist_ok=True)
        self.directory.chmod(0o755)
        (self.directory / "crl.pem").write_bytes(revocations(self.directory))
        sh(f"chown {USER} {self.directory}/*.key")
        self.names = tuple("b" + prefix[-5:].replace("x", "-") + end for end in "ab")
        self.a, self.b, self.router, self.host_a, self.host_b = map(self.netns, ("a", "b", "r", "ha", "hb"))
        self.ends = (self.a, self.b)
        self.hosts = (self.host_a, self.host_b)
        self._cables()
        self.settings = {
            "port": 1195,
            "network": "10.99.0.0/24",
            "ipv6_network": "fd99::/64",
            "outer_mtu": 1500,
            "tunnels": 4,
            "device_type": "tun",
            "spread": "per_packet",
            "snat": "none",
            "queue": 1000,
            "timeout": 1.2,
            "probe_port": 11940,
            "reordering": 0,
            "congestion_control": "",
            "rule_priority": 10000,
            "user": USER,
            "group": GROUP,
            **settings,
        }
        self.sites: t.Sequence[t.Sequence[str]] = SITES
        self.layouts: list[dict[str, t.Any]] = [{}, {}]
        self.made: list[set[str]] = [set(), set()]  # names of all instances, removed ones included

    def _cables(self) -> None:
        for i, (end, host) in enumerate(zip(self.ends, self.hosts)):
            inside, outside = ("10.1.0", "fd01:1::") if i == 0 else ("10.2.0", "fd01:2::")
            outer = OUTER[i].rpartition(".")[0]
            sh(
                f"""set -e
                ip -n {end} link add lan type veth peer name eth0 netns {host}
                ip -n {end} link add wan type veth peer name e{i} netns {self.router}
                ip -n {end} addr add {inside}.1/24 dev lan
                ip -n {host} addr add {inside}.9/24 dev eth0
                ip -n {end} addr add {outside}1/64 dev lan nodad
                ip -n {host} addr add {outside}9/64 dev eth0 nodad
                ip -n {end} addr add {outer}.1/24 dev wan
                ip -n {self.router} addr add {outer}.254/24 dev e{i}
                ip -n {end} link set lan up
                ip -n {end} link set wan up
                ip -n {host} link set eth0 up
                ip -n {self.router} link set e{i} up
                ip -n {end} route add default via {outer}.254
                ip -n {host} route add default via {inside}.1
                ip -n {host} route add default via {outside}1
                """
            )
            # Many distributions enable the strict rp_filter.
            sh("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.rp_filter=1", end)
        sh("sysctl -qw net.ipv4.ip_forward=1", self.router)

    # --- the steps of the role ----------------------------------------------------------------------------------------

    def lay_out(self, end: int) -> dict[str, t.Any]:
        """The layout of an end, from the settings and its previous layout."""
        ends = [
            {"name": name, "address": address, "networks": sites}
            for name, address, sites in zip("AB", OUTER, self.sites)
        ]
        settings = {**self.settings, "name": self.names[end], "end": end, "ends": ends, "netns": self.ends[end]}
        return bundle_layout(settings, self.layouts[end] or None)

    def converge(self, *, check: bool = False, **settings: t.Any) -> list[str]:
        """Apply the settings to both ends, in the steps of the playbook; the commands of all steps."""
        self.settings.update(settings)
        all_commands: list[str] = []
        layouts = [self.lay_out(end) for end in (0, 1)]
        if not check:
            self.layouts = layouts
        draining = [bundle_draining(layout) for layout in layouts]

        def processes(end: int) -> list[str]:
            retired = [self.instance(end, tunnel["device"]) for tunnel in layouts[end]["retired"]]
            stopped = {"commands": []}
            if retired:
                stopped = self.run("openvpn_instance", check=check, instances=retired, state="absent")
            if not check:
                self._configure(end, layouts[end])
            ours = self.run("openvpn_instance", check=check, instances=self.instances(end), timeout=30)
            return [*stopped["commands"], *ours["commands"]]

        def rest(end: int) -> list[str]:
            (bundle,) = layouts[end]["bundles"]
            return [] if draining[end] == bundle else self.run("tunnel_bundle", check=check, **bundle)["commands"]

        # Both ends take each step in parallel, and wait for each other before the next.
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            for do in (
                lambda end: self.run("tunnel_bundle", check=check, **draining[end])["commands"],
                processes,
                rest,
            ):
                for commands in pool.map(do, (0, 1)):
                    all_commands += commands
        for layout in layouts:
            layout["retired"] = []
        return all_commands

    def _configure(self, end: int, layout: dict[str, t.Any]) -> None:
        text = (ROLE / "templates/tunnel.conf.j2").read_text()
        environment = jinja2.Environment(trim_blocks=True, undefined=jinja2.StrictUndefined)
        environment.filters["bool"] = bool
        template = environment.from_string(text)
        variables = {
            "tunnel_bundle_name": self.names[end],
            "tunnel_bundle_end": end,
            "tunnel_bundle_layout": layout,
            "tunnel_bundle_device_type": self.settings["device_type"],
            "tunnel_bundle_directory": self.directory,
            "tunnel_bundle_certificate": "client" if end else "server",
            "tunnel_bundle_tls_version_min": "1.2",
            "tunnel_bundle_client": "client",
            "tunnel_bundle_server": "server",
            "ansible_managed": "a test's",
            "tunnel_bundle_data_ciphers": ["AES-256-GCM"],
            "tunnel_bundle_fast_io": True,
            "tunnel_bundle_socket_buffers": 2097152,
            "tunnel_bundle_extra_options": [],
        }
        for item in layout["instances"]:
            self.made[end].add(item["name"])
            path = self.directory / f"{item['name']}.conf"
            made = template.render(**variables, item=item)
            if not path.exists() or path.read_text() != made:
                path.write_text(made)

    def instance(self, end: int, name: str) -> dict[str, t.Any]:
        """Parameters of the module openvpn_instance."""
        location = {"netns": self.ends[end], "config": str(self.directory / f"{name}.conf")}
        return {"name": name, "user": USER, "group": GROUP, **location}

    def instances(self, end: int) -> list[dict[str, t.Any]]:
        """All instances of an end."""
        return [self.instance(end, item["name"]) for item in self.layouts[end].get("instances", [])]

    def run(self, module: str, *, check: bool = False, **args: t.Any) -> dict[str, t.Any]:
        """Run a module on this machine, whose namespaces the ends are; its result."""
        args = {"supervisor": "process", "_ansible_check_mode": check, "_ansible_diff": True, **args}
        result = call_here(module, args)
        assert not result.get("failed"), result["msg"]
        return result

    # --- observations -------------------------------------------------------------------------------------------------

    def device(self, end: int, number: int) -> str:
        """Name of the device and of the instance of a tunnel."""
        return f"{self.names[end]}-{number}"

    def pid(self, end: int, number: int) -> int:
        """Process ID of the OpenVPN process of a tunnel."""
        return int(json.loads((RUN / f"{self.device(end, number)}.json").read_text())["pid"])

    def live(self, end: int) -> list[int]:
        """The tunnels in the spread."""
        from ansible_collections.clustered.openvpn.plugins.module_utils._bundle import bundle as _bundle

        (params,) = self.layouts[end]["bundles"]
        bundle = _bundle.bundle_from(params)
        listed = sh(f"nft -j list chain inet {bundle.table} spread", self.ends[end])
        return spread.live_tunnels(bundle, json.loads(listed)["nftables"])

    def wait_live(self, numbers: t.Sequence[int], seconds: float = 30, ends: t.Sequence[int] = (0, 1)) -> float:
        """Wait until exactly these are in the spread at the ends; the seconds that it took."""
        start = time.monotonic()
        while (now := [self.live(end) for end in ends]) != [list(numbers)] * len(ends):
            assert time.monotonic() - start < seconds, f"expected {numbers} in the spread, found {now}: {self.logs()}"
            time.sleep(0.03)
        return time.monotonic() - start

    def logs(self) -> str:
        """The last lines of all logs."""
        paths = sorted(Path("/var/log/clustered-openvpn").glob("*"))
        ours = [path for path in paths if path.name.startswith(self.names)]
        return "\n".join(f"{path.name}:\n{sh(f'tail -n 8 {path}')}" for path in ours)

    def counts(self, end: int, port: int) -> dict[int, int]:
        """Datagrams to a port that were sent into each tunnel, counted since the first call."""
        devices = {self.device(end, t["number"]): t["number"] for t in self.layouts[end]["bundles"][0]["tunnels"]}
        if f"counts{port}" not in sh("nft list tables", self.ends[end]):
            rules = "; ".join(f'oifname "{device}" udp dport {port} counter' for device in devices)
            chain = f"chain out {{ type filter hook postrouting priority 300; {rules}; }};"
            sh(f"nft 'table inet counts{port} {{ {chain} }}'", self.ends[end])
            return dict.fromkeys(devices.values(), 0)
        found = {}
        for one in json.loads(sh(f"nft -j list table inet counts{port}", self.ends[end]))["nftables"]:
            if "rule" in one:
                device, _port, counter = one["rule"]["expr"]
                found[devices[device["match"]["right"]]] = counter["counter"]["packets"]
        return found

    def states(self, end: int) -> list[str]:
        """OpenVPN's state at each management socket, or the error."""
        found = []
        for item in self.layouts[end]["instances"]:
            try:
                found.append(ask(str(RUN / item["name"] / "management.sock"), Management.state).name)
            except ManagementError as exc:
                found.append(str(exc))
        return found

    def remove(self) -> None:
        """Remove everything, also after a failed test."""
        try:
            for end, name in enumerate(self.names):
                watch_process.stop(name)
                ours = [self.instance(end, one) for one in sorted(self.made[end])]
                if ours:
                    self.run("openvpn_instance", instances=ours, state="absent")
        finally:
            super().remove()
            shutil.rmtree(self.directory, ignore_errors=True)
            for name in self.names:
                Path(f"/var/log/clustered-openvpn/{name}.watch.log").unlink(missing_ok=True)


class Counter:
    """Receives numbered datagrams at a port of a namespace until it is stopped."""

    def __init__(self, netns: str, address: str, port: int):
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with within(netns):
            self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
        self._socket.bind((address, port))
        self._socket.settimeout(0.2)
        self.arrived: list[tuple[float, int]] = []
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over:
            try:
                data = self._socket.recv(65536)
            except OSError:
                continue
            self.arrived.append((time.monotonic(), int.from_bytes(data[:8], "big")))

    def wait(self, count: int, seconds: float = 20) -> int:
        """Wait until C(count) datagrams have arrived; the number that arrived."""
        end = time.monotonic() + seconds
        while len(self.arrived) < count and time.monotonic() < end:
            time.sleep(0.02)
        return len(self.arrived)

    def stop(self) -> None:
        """Stop receiving."""
        self._over = True
        self._thread.join()
        self._socket.close()


def send(netns: str, to: tuple[str, int], count: int, *, rate: float, size: int = 64) -> list[float]:
    """Send numbered datagrams, C(rate) per second; the time at which each was sent."""
    family = socket.AF_INET6 if ":" in to[0] else socket.AF_INET
    with within(netns), socket.socket(family, socket.SOCK_DGRAM) as sock:
        start = time.monotonic()
        times = []
        for number in range(count):
            due = start + number / rate
            if (left := due - time.monotonic()) > 0:
                time.sleep(left)
            times.append(time.monotonic())
            sock.sendto(number.to_bytes(8, "big").ljust(size, b"."), to)
    return times


class Stream:
    """Datagrams at a steady rate from the host of one site to the host of the other, until it is ended."""

    def __init__(self, lab: BundleLab, end: int, *, rate: float = 500, port: int = 5000):
        self.to = (HOSTS[1 - end][0], port)
        self.counter = Counter(lab.hosts[1 - end], *self.to)
        self.times: list[float] = []
        self._source, self._rate, self._over = lab.hosts[end], rate, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with within(self._source):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        start = time.monotonic()
        with sock:
            while not self._over.is_set():
                number = len(self.times)
                if (left := start + number / self._rate - time.monotonic()) > 0:
                    time.sleep(left)
                self.times.append(time.monotonic())
                try:
                    sock.sendto(number.to_bytes(8, "big").ljust(64, b"."), self.to)
                except OSError:  # an ICMP error about an earlier datagram: this one was not sent
                    continue

    def end(self) -> None:
        """Stop sending, and wait for datagrams on their way."""
        self._over.set()
        self._thread.join()
        time.sleep(0.5)
        self.counter.stop()

    def lost(self) -> list[float]:
        """Times at which lost or late datagrams were sent. A frozen process delivers its queue late."""
        arrived = {number: moment for moment, number in self.counter.arrived}
        late = float("inf")
        return [moment for number, moment in enumerate(self.times) if arrived.get(number, late) - moment > LATE]
