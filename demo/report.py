# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Check the demo: reconnect every client, and print which member serves it.

The exit status is 1 if a client is not served, is served by two members, or by another one than the filter
bucket_member predicts.
"""

from __future__ import annotations

import http.server
import json
import re
import socket
import subprocess
import sys
import threading
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ansible_collections.clustered.openvpn.plugins.filter.cluster import bucket, bucket_member
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.instance import management_socket
from ansible_collections.clustered.openvpn.plugins.module_utils._openvpn.management import Management, ask

STATE = Path("/etc/clustered-openvpn/demo.json")
CLIENTS = [f"demo-c{i}" for i in range(1, 9)]
PAGE_PORT = 8088


@dataclass
class Result:
    """The findings about one client. Times are in seconds."""

    name: str
    address: str = ""
    bucket: int = 0
    predicted: str | None = None
    served_by: list[str] = field(default_factory=list)
    tunnel: str = ""
    handshake: float | None = None  # from the first packet to CONNECTED
    ping: float | None = None  # round-trip time through the tunnel
    page: bool = False  # whether it has fetched a page through the tunnel

    @property
    def good(self) -> bool:
        """Whether exactly the predicted member serves the client, and its tunnel works."""
        return self.served_by == [self.predicted] and self.ping is not None and self.page and self.handshake is not None


def main() -> int:
    """Measure and print; the exit status."""
    state = json.loads(STATE.read_text(encoding="utf-8"))
    total, seed = state["cluster"]["total_nodes"], state["cluster"]["hash_init"]
    owners = {m["name"]: m["local_nodes"] for m in state["members"]}
    # The host's address towards the members: clients reach it through their tunnels.
    gateway = state["veths"][0]["peer"]["routes"][0]["via"]

    print("\nEight clients reconnect, ping the host and fetch a page through their tunnels …", flush=True)
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        results = list(pool.map(connect, CLIENTS))
    for result in results:
        result.bucket = bucket(result.address, total, seed)
        result.predicted = bucket_member(result.address, owners, total, seed)
    find_servers(state["servers"], {r.name: r for r in results})
    server = http.server.ThreadingHTTPServer((gateway, PAGE_PORT), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for result in results:
        result.ping = ping(result.name, gateway)
        result.page = fetch(result.name, f"http://{gateway}:{PAGE_PORT}/") == f"hello {result.tunnel}\n"
    server.shutdown()

    print_table(results)
    bad = [r.name for r in results if not r.good]
    members = {r.predicted for r in results}
    served = f"{len(results) - len(bad)} of {len(results)}"
    print(f"{served} clients are served by the predicted member. {len(members)} members have clients.")
    if bad:
        print(f"Failed: {', '.join(bad)}", file=sys.stderr)
    print_summary(state)
    return 1 if bad else 0


def connect(name: str) -> Result:
    """Reconnect a client, and measure its handshake."""
    result = Result(name, address=outer_address(name))
    path = management_socket(name)
    started = None
    try:
        with socket.socket(socket.AF_UNIX) as sock, sock.makefile("r") as lines:
            sock.settimeout(30)
            sock.connect(path)
            sock.sendall(b"state on\nsignal SIGUSR1\n")
            for line in lines:
                if line.startswith(">STATE:") and ",WAIT," in line:
                    started = time.monotonic()
                if line.startswith(">STATE:") and ",CONNECTED,SUCCESS," in line and started:
                    result.handshake = time.monotonic() - started
                    break
    except OSError as exc:
        print(f"{name}: {exc}", file=sys.stderr)
    return result


def outer_address(name: str) -> str:
    """The address of a client on the LAN."""
    links = json.loads(command("ip", "-n", name, "-j", "-4", "addr", "show", "dev", "eth0"))
    return str(links[0]["addr_info"][0]["local"])


def find_servers(servers: list[dict[str, t.Any]], results: dict[str, Result]) -> None:
    """Query the clients of every server, and add them to the results."""
    for server in servers:
        status = ask(management_socket(server["name"]), Management.status)
        for client in status.clients:
            if client.common_name in results:
                results[client.common_name].served_by.append(server["netns"])
                results[client.common_name].tunnel = client.virtual_address


def ping(netns: str, address: str) -> float | None:
    """The round-trip time in seconds; None without an answer."""
    output = command("ip", "netns", "exec", netns, "ping", "-c", "1", "-W", "3", address)
    found = re.search(r"time=([0-9.]+) ms", output)
    return float(found.group(1)) / 1000 if found else None


def fetch(netns: str, url: str) -> str:
    """The page at a URL, fetched from a namespace."""
    code = f"import urllib.request as u; print(u.urlopen({url!r}, timeout=5).read().decode(), end='')"
    return command("ip", "netns", "exec", netns, sys.executable, "-c", code)


def command(*args: str) -> str:
    """The output of a command; empty if it fails, which the table shows."""
    return subprocess.run(args, capture_output=True, text=True, timeout=30, check=False).stdout


class Page(http.server.BaseHTTPRequestHandler):
    """Responds with the address of the client: that of its tunnel, if the request came through the tunnel."""

    def do_GET(self) -> None:
        """Respond to any URL."""
        body = f"hello {self.client_address[0]}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: t.Any) -> None:
        """Print nothing."""


def print_table(results: list[Result]) -> None:
    """Print one line per client."""
    heads = (
        "client address",
        "bucket",
        "predicted member",
        "actual member",
        "handshake",
        "tunnel address",
        "ping",
        "page",
    )
    rows = [heads]
    for r in results:
        rows.append(
            (
                r.address,
                str(r.bucket),
                str(r.predicted),
                ", ".join(r.served_by) or "none",
                f"{r.handshake * 1000:.0f} ms" if r.handshake is not None else "none",
                r.tunnel or "none",
                f"{r.ping * 1000:.1f} ms" if r.ping is not None else "none",
                "yes" if r.page else "no",
            )
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(heads))]
    print()
    for i, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
        if i == 0:
            print("  ".join("-" * width for width in widths))
    print()


def print_summary(state: dict[str, t.Any]) -> None:
    """Print the resources that exist on the machine now, and commands to inspect them."""
    members = ", ".join(m["name"] for m in state["members"])
    cluster = state["cluster"]
    family = "bridge" if cluster["uplink"] == "bridged" else "netdev"
    table = f"clustered_openvpn_{state['name']}"
    print(
        f"""
On this machine now:
  {len(state["members"])} members, network namespaces {members}: one OpenVPN server each, for {cluster["address"]}
  bridge {cluster["bridge"]}, nftables tables {table}, desired state {STATE}
  interface {cluster["interface"]}, with eight clients behind it: network namespaces demo-lan, demo-c1 … demo-c8

Inspect:       ip netns; bridge fdb show; nft list table {family} {table}; cat {STATE}
Run it again:  make demo
Another size:  make demo MEMBERS=4
Remove it:     make clean"""
    )


if __name__ == "__main__":
    sys.exit(main())
