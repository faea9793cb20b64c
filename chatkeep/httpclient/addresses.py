"""Decide which addresses a call to a provider may go to (SSRF protection).

A name proves nothing: the owner of a domain can point it at this machine, at its network or at a cloud's metadata
service, and can change it between two lookups (DNS rebinding). So a name is resolved once, its addresses are checked in
whatever form they are written, and the call connects to a checked address.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from chatkeep.errors import ProviderBroke, SettingsError
from chatkeep.i18n import _
from chatkeep.runtime.hosts import is_listed

Address = tuple[int, int, int, str, tuple[Any, ...]]
Resolve = Callable[[str, int], Sequence[Address]]
IP = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(map(ip_network, texts))


# Never a provider: link-local (cloud metadata), site-local, multicast, reserved, Teredo; then the metadata services of
# AWS over IPv6, Alibaba, Oracle and Azure.
_FORBIDDEN = _networks(
    "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "fec0::/10", "ff00::/8", "2001::/32",
    "fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
)  # fmt: skip
# TUN proxies answer every name with these.
_FAKE_IPS = ip_network("198.18.0.0/15")
# These embed an IPv4 address in the last 32 bits: NAT64, IPv4-translated (RFC 2765), and IPv4-compatible.
_EMBEDDING_IPV4 = _networks("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")
_UNSPECIFIED_OR_LOOPBACK = {IPv6Address("::"), IPv6Address("::1")}


def resolve_by_system(host: str, port: int) -> Sequence[Address]:
    """Resolve a name with the system's resolver."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class Destinations:
    """The hosts that calls may go to, with wildcards ``*.example.com`` and ``*``.

    A host listed by its full name may have a private address: a model on this machine or in its network. One that only
    matches a wildcard may not.
    """

    hosts: frozenset[str]
    resolve: Resolve = resolve_by_system

    def require(self, host: str) -> None:
        """Raise `SettingsError` if the host is not allowed."""
        if not is_listed(host.lower(), self.hosts):
            raise SettingsError([_("OPENAI_BASE_URL: its host is not among those of CHATKEEP_PROVIDER_HOSTS")])

    def addresses(self, host: str, port: int) -> list[Address]:
        """Resolve a name once, and return its allowed addresses.

        Raises `ProviderBroke` if none is allowed, `socket.gaierror` if the name is unknown.
        """
        may_be_private = self._is_named(host)
        found = self.resolve(host, port)
        allowed = [address for address in found if is_allowed(address[4][0], private=may_be_private)]
        if found and not allowed:
            raise _forbidden()
        return allowed

    def _is_named(self, host: str) -> bool:
        return host.lower() in self.hosts


def _forbidden() -> ProviderBroke:
    failure = ProviderBroke(
        _(
            "The provider's name leads to an address that calls may not go to: check OPENAI_BASE_URL and "
            "CHATKEEP_PROVIDER_HOSTS."
        )
    )
    failure.should_retry = False
    return failure


def is_allowed(text: str, *, private: bool) -> bool:
    """Return whether a call may go to an address, or to the IPv4 address that it embeds."""
    ip = _embedded_or_self(ip_address(text))
    if any(ip in network for network in _FORBIDDEN):
        return False
    return private or ip.is_global or ip in _FAKE_IPS


def _embedded_or_self(ip: IP) -> IP:
    """Return the IPv4 address that an IPv6 address embeds, which is where packets go; else the address itself."""
    if isinstance(ip, IPv4Address) or ip in _UNSPECIFIED_OR_LOOPBACK:
        return ip
    if inner := ip.ipv4_mapped or ip.sixtofour:
        return inner
    if any(ip in network for network in _EMBEDDING_IPV4):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
