"""Which addresses a server may call when somebody else names them: the judgement against SSRF.

A host is judged by the address that is connected to, never by its name: a name may mean another address
at each look, and `0x7f.1`, `2130706433` and `::ffff:127.0.0.1` are all this machine.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import msgspec

Network = IPv4Network | IPv6Network

_NEVER = tuple(
    ip_network(block)
    for block in (
        "0.0.0.0/8",
        "100.100.100.200/32",  # metadata of Alibaba Cloud
        "168.63.129.16/32",  # the host of Azure
        "169.254.0.0/16",  # link-local, and metadata of the others
        "192.0.0.192/32",  # metadata of Oracle Cloud
        "224.0.0.0/4",
        "240.0.0.0/4",
        "::/128",
        "fd00:ec2::/32",  # metadata of AWS
        "fe80::/10",
        "ff00::/8",
    )
)
"""What no allowance opens: other machines' secrets are there, and nobody's webhook."""

_TRANSLATED = ip_network("64:ff9b::/96")
"""IPv4 behind NAT64 (RFC 6052)."""


class OutboundPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be called: the public internet over HTTPS, and what is allowed beside it.

    `networks` are private ranges that may be called too, such as `10.0.0.0/8`; `plain` allows HTTP.
    """

    networks: tuple[str, ...] = ()
    plain: bool = False

    def refusal_of(self, address: str) -> str:
        """Why an IP address may not be called; empty when it may."""
        try:
            meant = _meant(ip_address(address.partition("%")[0]))
        except ValueError:
            return "it is no IP address"
        if any(_holds(block, meant) for block in _NEVER):
            return "it is link-local, or belongs to nobody"
        if any(_holds(ip_network(block, strict=False), meant) for block in self.networks):
            return ""
        return "" if meant.is_global else "it is not of the public internet"

    def scheme_refusal_of(self, scheme: str) -> str:
        """Why a URL's scheme may not be used; empty when it may."""
        allowed = ("https", "http") if self.plain else ("https",)
        return "" if scheme in allowed else f"only {' and '.join(allowed)} may be called"


def _meant(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The IPv4 address that an IPv6 one stands for; else itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.sixtofour is not None:
            return address.sixtofour
        if address in _TRANSLATED:
            return IPv4Address(int(address) & 0xFFFFFFFF)
        if address.teredo is not None:
            return address.teredo[1]
    return address


def _holds(block: Network, address: IPv4Address | IPv6Address) -> bool:
    return block.version == address.version and address in block
