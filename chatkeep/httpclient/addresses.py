"""Which addresses a call to a provider may go to. The name is resolved once, and what was looked at is connected to.

A name decides nothing by itself: whoever has a domain can point it at this machine, at its network, or at the address
where clouds hand out credentials, and can do so between two look-ups. So addresses are judged, in whatever form they
were written and wrapped, and not names.
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


# No model is here, whatever a name says: the link (where clouds' metadata is), what once was the site, many at once,
# reserved, Teredo; then metadata that is elsewhere: of AWS over IPv6, of Alibaba, of Oracle, and Azure's host.
_NEVER = _networks(
    "169.254.0.0/16", "224.0.0.0/3", "fe80::/10", "fec0::/10", "ff00::/8", "2001::/32",
    "fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32", "168.63.129.16/32",
)  # fmt: skip
# Proxies that take a machine's whole traffic (TUN) answer with these for every name.
_STAND_INS = ip_network("198.18.0.0/15")
# An IPv4 address is in the last bits of these: NAT64, what is translated (RFC 2765), and what IPv6 once was compatible
# with.
_WRAPPED_AT_THE_END = _networks("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96")
_ALONE = {IPv6Address("::"), IPv6Address("::1")}


def by_system(host: str, port: int) -> Sequence[Address]:
    """Return the addresses that the system knows of a name."""
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


@dataclass(frozen=True, slots=True)
class Destinations:
    """Where calls may go: the hosts that the operator named, ``*.example.com`` and ``*`` for many.

    A host that is named itself may be private: a model on this machine, or in its network. One that only ends as it
    should may not be.
    """

    hosts: frozenset[str]
    resolve: Resolve = by_system

    def require(self, host: str) -> None:
        """Raise `SettingsError` where the host is not among those that are allowed."""
        if not is_listed(host.lower(), self.hosts):
            raise SettingsError([_("OPENAI_BASE_URL: its host is not among those of CHATKEEP_PROVIDER_HOSTS")])

    def addresses(self, host: str, port: int) -> list[Address]:
        """Look a name up, once, and return those of its addresses that a call may go to.

        Raises `ProviderBroke` where there is none, `socket.gaierror` where the name is unknown.
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
    """Return whether a call may go to an address, or to the one that is wrapped in it."""
    ip = _unwrapped(ip_address(text))
    if any(ip in network for network in _NEVER):
        return False
    return private or ip.is_global or ip in _STAND_INS


def _unwrapped(ip: IP) -> IP:
    """Return where packets end up: the address that is in an IPv6 one, where that carries another."""
    if isinstance(ip, IPv4Address) or ip in _ALONE:
        return ip
    if inner := ip.ipv4_mapped or ip.sixtofour:
        return inner
    if any(ip in network for network in _WRAPPED_AT_THE_END):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip
