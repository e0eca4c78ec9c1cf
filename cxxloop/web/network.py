# SPDX-License-Identifier: MIT
"""Names of hosts, as far as they say who can reach them."""

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host: an address of 127.0.0.0/8, ::1, or localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def cannot_be_rebound(host_header: str, own_name: str) -> bool:
    """Whether a Host header names a host that no stranger's DNS server decides about: an address, localhost, or our own name.

    A page of another site can have its name resolve to 127.0.0.1 and read what is served there as its own (DNS rebinding); its
    requests name that site all the same.
    """
    host = host_header.lower()
    if host.startswith("["):
        host, bracket, rest = host[1:].partition("]")
        if not bracket or (rest and not (rest.startswith(":") and rest[1:].isdigit())):
            return False
    else:
        host = host.partition(":")[0]
    if host in ("localhost", own_name.lower()):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
