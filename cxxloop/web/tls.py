# SPDX-License-Identifier: MIT
"""The SSLContext that the settings of TLS describe, and what the native server asks of the module ssl."""

import contextlib
import functools
import ssl
import sys
from typing import TYPE_CHECKING, Any

from .error import ConfigError

if TYPE_CHECKING:
    from .config import Config


def make_context(config: "Config") -> ssl.SSLContext | None:
    """Make the context of ssl_certfile and its companions, or of ssl_context_factory; or take ssl_context.

    Returns:
        None exactly when TLS is not asked for.

    Raises:
        ConfigError: a file cannot be read or used; one line that names the setting and the file.
    """
    if config.ssl_context is not None:
        return _checked("ssl_context", "must be", config.ssl_context)
    if config.ssl_context_factory is not None:
        context = config.ssl_context_factory(config, lambda: _default_context(config))
        return _checked("ssl_context_factory", "must return", context)
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
    _checked("ssl_version", "must be", context)
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


def _checked(name: str, verb: str, context: Any) -> ssl.SSLContext:
    if not isinstance(context, ssl.SSLContext):
        raise ConfigError(name, f"{verb} an ssl.SSLContext, not {type(context).__name__}")
    if context.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ConfigError(name, f"{verb} an ssl.SSLContext of servers, not of clients (PROTOCOL_TLS_CLIENT)")
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


def check_engine(config: "Config", context: ssl.SSLContext | None, has_libssl: bool) -> None:
    """See to it that TLS can be spoken by what ssl_engine names.

    Args:
        config: the settings.
        context: what make_context() has returned.
        has_libssl: the native server can use Python's libssl itself.

    Raises:
        ConfigError: it cannot.
    """
    if context is None or config.ssl_engine != "libssl":
        return
    if not has_libssl:
        raise ConfigError("ssl_engine", "the libssl of this Python can be used through the module ssl only: take auto or python")
    if not is_plain_context(context):
        raise ConfigError("ssl_engine", "the context makes connections of a class of its own: take auto or python")


# --- what the native server calls --------------------------------------------------------------------------------------------


def is_plain_context(context: ssl.SSLContext) -> bool:
    """True exactly when the context's connections are Python's own, so that libssl may make them as well."""
    return type(context).wrap_bio is ssl.SSLContext.wrap_bio and context.sslobject_class is ssl.SSLObject


def make_object(context: ssl.SSLContext) -> ssl.SSLObject:
    """Make the server's side of a connection, which nobody uses. Raises what the context raises."""
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)


def extension(
    version: int, cipher_suite: int, server_der: bytes | None, client_ders: list[bytes], client_name: str | None
) -> dict[str, Any]:
    """Make the value of the extension "tls" in a scope (ASGI's TLS extension 0.2).

    Args:
        version: of TLS, by IANA's number; 0: not known.
        cipher_suite: by IANA's number; 0: not known.
        server_der: the certificate that was shown to the client; None: not known.
        client_ders: what the client has shown, its own first.
        client_name: the subject of that, as RFC 4514 has it.
    """
    return {
        "server_cert": None if server_der is None else _pem_of_server(server_der),
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der) for der in client_ders],
        "client_cert_name": client_name,
        "client_cert_error": None,  # such a client does not come through the handshake
        "tls_version": version or None,
        "cipher_suite": cipher_suite or None,
    }


_pem_of_server = functools.lru_cache(maxsize=16)(ssl.DER_cert_to_PEM_cert)

_VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# OpenSSL's short names of what a subject is made of (RFC 4514 3, and what is common besides).
_SHORT_NAMES = {
    "commonName": "CN",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "streetAddress": "street",
    "domainComponent": "DC",
    "userId": "UID",
    "surname": "SN",
    "givenName": "GN",
}


class ObjectSession:
    """The server's side of one connection by ssl.SSLObject.

    What fails because of the client raises an ssl.SSLError, after which the output may hold an alert.
    """

    def __init__(self, context: ssl.SSLContext) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def handshake(self, data: bytes) -> bool:
        """Go on with the handshake by what was received. True: it is done."""
        self._incoming.write(data)
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def read(self, data: bytes, size: int) -> tuple[bytes, bool]:
        """Decrypt what was received, at most `size` bytes of it. With True: the client has said that it sends no more."""
        self._incoming.write(data)
        plain = bytearray()
        while len(plain) < size:
            try:
                piece = self._object.read(size - len(plain))
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                piece = b""
            if not piece:
                return bytes(plain), True
            plain += piece
        return bytes(plain), False

    def write(self, data: bytes) -> None:
        """Encrypt all of it."""
        self._object.write(data)

    def close(self) -> None:
        """Say that nothing more comes."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._object.unwrap()

    def take_output(self, size: int) -> bytes:
        """Take what is to be sent, at most `size` bytes of it."""
        return self._outgoing.read(size)

    def describe(self) -> tuple[int, int, list[bytes], str | None]:
        """Return the version of TLS and the cipher suite, both 0 if not known; the client's certificates, and its name."""
        cipher = self._object.cipher()
        suites = {suite["name"]: suite["id"] & 0xFFFF for suite in self._object.context.get_ciphers()}
        version = _VERSIONS.get(self._object.version() or "", 0)
        suite = suites.get(cipher[0], 0) if cipher is not None else 0
        own = self._object.getpeercert(True)
        if own is None:
            return version, suite, [], None
        subject: Any = (self._object.getpeercert() or {}).get("subject", ())
        return version, suite, self._client_chain(own), _name_of(subject)

    def _client_chain(self, own: bytes) -> list[bytes]:
        if sys.version_info >= (3, 13):
            return self._object.get_unverified_chain() or [own]
        inside: Any = getattr(self._object, "_sslobj", None)
        certificates = inside.get_unverified_chain() if hasattr(inside, "get_unverified_chain") else None
        if not certificates:
            return [own]
        return [ssl.PEM_cert_to_DER_cert(certificate.public_bytes()) for certificate in certificates]


def _name_of(subject: tuple[tuple[tuple[str, str], ...], ...]) -> str:
    """The subject of a certificate, as ssl has it, by RFC 4514: the last part first."""
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in reversed(part)) for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    text = "".join(f"\\{char}" if char in ',+"\\<>;' else f"\\{ord(char):02X}" if ord(char) < 32 or ord(char) == 127 else char for char in value)
    if text.startswith(("#", " ")):
        text = "\\" + text
    if text.endswith(" ") and not text.endswith("\\ "):
        text = text[:-1] + "\\ "
    return text
