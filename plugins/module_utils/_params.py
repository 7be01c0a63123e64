# Copyright (c) 2026 clustered.openvpn contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Validation of parameters: user input -> normalised values, or ParameterError. Pure.

The first argument of all functions is the parameter's name for the error message, for example C(veths[0].mtu).
"""

from __future__ import annotations

import ipaddress
import re
import typing as t

_MAC = re.compile(r"^[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_NETNS = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.:@+-]*\Z")
IFNAMSIZ = 16  # linux/if.h, with the closing zero byte


class ParameterError(ValueError):
    """An invalid parameter. The message names the parameter, its value, and the reason or remedy."""

    def __init__(self, parameter: str, value: t.Any, remedy: str):
        super().__init__(f"{parameter}: {value!r}: {remedy}")


def text(parameter: str, value: str) -> str:
    """Text for a path, an argument or a line of a file: without control characters and surrogates."""
    if any(ord(char) < 32 or ord(char) == 127 or 0xD800 <= ord(char) < 0xE000 for char in value):
        raise ParameterError(parameter, value, "write it without control characters, and in UTF-8")
    return value


def interface_name(parameter: str, value: str) -> str:
    """The name of an interface, as the kernel accepts it (net/core/dev.c, dev_valid_name)."""
    if not 0 < len(value.encode(errors="surrogatepass")) < IFNAMSIZ:
        raise ParameterError(parameter, value, f"an interface name has 1 to {IFNAMSIZ - 1} bytes")
    if value in (".", "..") or re.search(r"[\s/:%\"'\\]", value):
        raise ParameterError(
            parameter, value, "an interface name has no white space, slash, colon, quote, backslash or percent sign"
        )
    return text(parameter, value)


def netns_name(parameter: str, value: str | None, *, allow_empty: bool = False) -> str:
    """The name of a network namespace. With C(allow_empty), "" or None is the host's own."""
    if not value:
        if allow_empty:
            return ""
        raise ParameterError(parameter, value, "give the name of a network namespace")
    if len(value) > 64 or not _NETNS.match(value):
        raise ParameterError(
            parameter, value, "a namespace name has at most 64 letters, digits, and . _ - : @ +, and no slash"
        )
    return value


def mac(parameter: str, value: str | None, *, multicast: bool | None = False) -> str | None:
    """A MAC address, lower case with colons. C(multicast): True, False (unicast only), or None for both."""
    if value is None:
        return None
    text = value.lower().replace("-", ":")
    if not _MAC.match(text):
        raise ParameterError(parameter, value, "write a MAC address as 02:00:00:00:00:01")
    if multicast is not None and bool(int(text[:2], 16) & 1) is not multicast:
        kind = "multicast (odd first byte)" if multicast else "unicast (even first byte)"
        raise ParameterError(parameter, value, f"a {kind} MAC address is needed here")
    return text


def interface_address(parameter: str, value: str) -> str:
    """An address with prefix length, 192.0.2.1/24; /32 or /128 is added if it has none."""
    try:
        return str(ipaddress.ip_interface(value))
    except ValueError as exc:
        raise ParameterError(parameter, value, f"write an address as 192.0.2.1/24 or 2001:db8::1/64 ({exc})") from exc


def address(parameter: str, value: str, *, version: int | None = None) -> str:
    """An address without prefix length."""
    try:
        result = ipaddress.ip_address(value)
    except ValueError as exc:
        raise ParameterError(parameter, value, f"write an address as 192.0.2.1, without a prefix ({exc})") from exc
    if version and result.version != version:
        raise ParameterError(parameter, value, f"an IPv{version} address is needed here")
    return str(result)


def service_address(parameter: str, value: str) -> str:
    """An address without prefix length that clients can send to."""
    result = ipaddress.ip_address(address(parameter, value))
    if result.is_multicast or result.is_loopback or result.is_unspecified or result.is_reserved or result.is_link_local:
        raise ParameterError(
            parameter, value, "clients must be able to send to it; use an address of the NIC's network"
        )
    return str(result)


def network(parameter: str, value: str, *, version: int | None = None) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """A network; host bits must be 0."""
    try:
        result = ipaddress.ip_network(value)
    except ValueError as exc:
        example = "fd12:3456:789a::/48" if version == 6 else "10.8.0.0/16"
        raise ParameterError(parameter, value, f"write a network as {example}, without host bits ({exc})") from exc
    if version and result.version != version:
        raise ParameterError(parameter, value, f"an IPv{version} network is needed here")
    return result


def destination(parameter: str, value: str, *, via: str | None = None) -> str:
    """A route's destination; C(default) is ::/0 when the gateway is an IPv6 address, 0.0.0.0/0 otherwise."""
    if value == "default":
        return "::/0" if via and ":" in via else "0.0.0.0/0"
    return str(network(parameter, value))


def unique(parameter: str, values: t.Iterable[t.Any]) -> None:
    """Raise ParameterError if a value occurs twice."""
    seen: set[t.Any] = set()
    for value in values:
        if value in seen:
            if isinstance(value, tuple):  # for example namespace and interface
                value = " ".join(str(word) for word in value if word != "")
            raise ParameterError(parameter, value, "named twice; name it once")
        seen.add(value)
