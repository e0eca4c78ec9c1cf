# SPDX-License-Identifier: MIT
"""A certificate for one run, which nobody signs and the clients do not check."""

import ssl
from pathlib import Path

import trustme


def make_certificate(folder: Path) -> Path:
    """A PEM file with an ECDSA P-256 key and its chain."""
    path = folder / "server.pem"
    trustme.CA().issue_cert("localhost", "127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(path))
    return path


def trusting_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
