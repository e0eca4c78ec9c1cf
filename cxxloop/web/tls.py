# SPDX-License-Identifier: MIT
"""The SSLContext that the settings of TLS describe."""

import ssl
from typing import TYPE_CHECKING, Any

from .error import ConfigError

if TYPE_CHECKING:
    from .config import Config


def make_context(config: "Config") -> ssl.SSLContext | None:
    """Make the context of ssl_certfile and its companions, or of ssl_context_factory.

    Returns:
        None exactly when TLS is not asked for.

    Raises:
        ConfigError: a file cannot be read or used; one line that names the setting and the file.
    """
    if config.ssl_context_factory is not None:
        context = config.ssl_context_factory(config, lambda: _default_context(config))
        if not isinstance(context, ssl.SSLContext):
            raise ConfigError("ssl_context_factory", f"must return an ssl.SSLContext, not {type(context).__name__}")
        return context
    if config.ssl_certfile is None:
        if config.ssl_keyfile is not None:
            raise ConfigError("ssl_keyfile", "needs ssl_certfile")
        return None
    return _default_context(config)


def _default_context(config: "Config") -> ssl.SSLContext:
    certificate = config.ssl_certfile
    if certificate is None:
        raise ConfigError("ssl_context_factory", "its default context needs ssl_certfile")
    try:
        context = ssl.SSLContext(config.ssl_version)
    except ValueError:
        raise ConfigError("ssl_version", f"{config.ssl_version} is no protocol of the module ssl") from None
    password = config.ssl_keyfile_password
    # Never the terminal: OpenSSL would ask there for the password of an encrypted key, and wait.
    given: Any = lambda: password or ""  # noqa: E731
    _apply("ssl_certfile", certificate, context.load_cert_chain, certificate, config.ssl_keyfile, given)
    if config.ssl_ca_certs:
        _apply("ssl_ca_certs", config.ssl_ca_certs, context.load_verify_locations, config.ssl_ca_certs)
    context.verify_mode = ssl.VerifyMode(config.ssl_cert_reqs)
    if config.ssl_ciphers:
        _apply("ssl_ciphers", config.ssl_ciphers, context.set_ciphers, config.ssl_ciphers)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _apply(name: str, shown: str, function: Any, *arguments: Any) -> None:
    try:
        function(*arguments)
    except ssl.SSLError as error:
        reason = (getattr(error, "reason", None) or str(error)).replace("_", " ").lower()
        raise ConfigError(name, f"cannot use {shown!r}: {reason}") from None
    except OSError as error:
        if name == "ssl_certfile" and len(arguments) > 1 and arguments[1] is not None and _is_readable(shown):
            name, shown = "ssl_keyfile", arguments[1]
        raise ConfigError(name, f"cannot read {shown!r}: {error.strerror}") from None


def _is_readable(path: str) -> bool:
    try:
        with open(path, "rb"):
            return True
    except OSError:
        return False
