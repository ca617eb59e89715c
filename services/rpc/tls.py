"""TLS between Mien's own services, and what the gateway shows its callers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import grpc
from cryptography import x509

from services.rpc.peers import Peers
from services.settings import SettingsError, TlsSettings, WatchSettings
from services.telemetry import get_logger

_log = get_logger(__name__)
_Made = TypeVar("_Made")
_UNIX = "unix:"


@dataclass(frozen=True)
class ClientCredentials:
    """How a client proves itself to Mien's services.

    Attributes:
        channel: its certificate, and the authority of theirs.
        server_name: name in their certificates; empty for the host of their address.
    """

    channel: grpc.ChannelCredentials
    server_name: str = ""


@dataclass(frozen=True)
class ServiceCredentials:
    """How a model service proves itself, and whom it answers.

    Attributes:
        server: its certificate, and the authority of its callers'.
        peers: those whom it lets in; None for whoever has a certificate of the authority.
    """

    server: grpc.ServerCredentials
    peers: Peers | None = None


def secured_channel(
    address: str,
    credentials: ClientCredentials | None,
    options: Sequence[tuple[str, str | int]] = (),
) -> grpc.aio.Channel:
    """A channel, with TLS where there are credentials; a socket file needs none.

    Args:
        address: "host:port" or "unix:PATH".
        credentials: None for no TLS.
        options: of the channel.
    """
    if credentials is None or address.startswith(_UNIX):
        return grpc.aio.insecure_channel(address, options=list(options))
    named = [("grpc.ssl_target_name_override", credentials.server_name)]
    return grpc.aio.secure_channel(
        address,
        credentials.channel,
        options=[*options, *(named if credentials.server_name else [])],
    )


def client_credentials(settings: TlsSettings) -> ClientCredentials | None:
    """What this process calls Mien's services with; None without TLS.

    Raises:
        SettingsError: a file cannot be read.
    """
    if settings.ca is None or settings.cert is None or settings.key is None:
        return None
    channel = grpc.ssl_channel_credentials(
        _bytes(settings.ca), _bytes(settings.key), _bytes(settings.cert)
    )
    return ClientCredentials(channel, settings.server_name)


def service_credentials(settings: TlsSettings, address: str) -> ServiceCredentials | None:
    """What a model service is served with: it answers only whom the authority knows.

    Args:
        settings: files.
        address: that it will listen on; a socket file needs no TLS.

    Returns:
        None for no TLS.

    Raises:
        SettingsError: a file cannot be read, or holds no certificate.
    """
    if settings.ca is None or settings.cert is None or settings.key is None:
        return None
    if address.startswith(_UNIX):
        return None
    served = _served(settings.cert, settings.key, settings.ca)
    return ServiceCredentials(served, peers_of(settings))


def peers_of(settings: TlsSettings) -> Peers | None:
    """Those whom a model service lets in; None for whoever its authority knows."""
    return Peers(frozenset(settings.peers)) if settings.peers else None


def gateway_credentials(settings: TlsSettings) -> grpc.ServerCredentials | None:
    """What the gateway's gRPC is served with; None for no TLS.

    Raises:
        SettingsError: a file cannot be read, or holds no certificate.
    """
    if settings.gateway_cert is None or settings.gateway_key is None:
        return None
    return _served(settings.gateway_cert, settings.gateway_key, None)


def watch_credentials(settings: WatchSettings) -> ClientCredentials | None:
    """How `mien watch` calls a gateway; None without TLS.

    Raises:
        SettingsError: the file cannot be read.
    """
    if not settings.tls:
        return None
    roots = None if settings.ca is None else _bytes(settings.ca)
    return ClientCredentials(grpc.ssl_channel_credentials(roots))


def gateway_trust(settings: TlsSettings) -> ClientCredentials | None:
    """How a command of this machine calls the gateway: it trusts the very certificate that it has.

    Raises:
        SettingsError: the file cannot be read, or holds no certificate.
    """
    if settings.gateway_cert is None:
        return None
    chain = _bytes(settings.gateway_cert)
    try:
        own = x509.load_pem_x509_certificates(chain)[0]
        names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound) as error:
        raise SettingsError(
            f"MIEN_TLS__GATEWAY_CERT: {settings.gateway_cert} is no certificate with a name"
        ) from error
    hosts = names.get_values_for_type(x509.DNSName)
    return ClientCredentials(grpc.ssl_channel_credentials(chain), hosts[0] if hosts else "")


class Renewed(Generic[_Made]):
    """What is made of files, and made anew when one of them has changed.

    Args:
        files: looked at.
        make: of their contents.

    Raises:
        SettingsError: a file cannot be read.
    """

    def __init__(self, files: Sequence[Path], make: Callable[..., _Made]) -> None:
        self._files, self._make = files, make
        self._stamps = self._look()
        self.first = make(*map(_bytes, files))

    def changed(self) -> _Made | None:
        """What is made of the files as they are now; None where they have not changed.

        Files that cannot be read, as in the midst of a change, leave all as it is.
        """
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return None
            made = self._make(*map(_bytes, self._files))
        except (SettingsError, ValueError):
            _log.warning("certificates that have changed cannot be read", files=self._files)
            return None
        self._stamps = stamps
        _log.info("certificates have changed", files=self._files)
        return made

    def _look(self) -> list[tuple[int, int]]:
        try:
            return [(one.stat().st_mtime_ns, one.stat().st_ino) for one in self._files]
        except OSError as error:
            raise _unreadable(error.filename) from error


def _served(cert: Path, key: Path, ca: Path | None) -> grpc.ServerCredentials:
    def configuration(
        chain: bytes, private: bytes, authority: bytes | None = None
    ) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(private, chain)], authority)

    files = [cert, key] if ca is None else [cert, key, ca]
    renewed = Renewed(files, configuration)
    return grpc.dynamic_ssl_server_credentials(
        renewed.first,
        renewed.changed,  # type: ignore[arg-type]  # None, for no change, is allowed
        require_client_authentication=ca is not None,
    )


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path) from error


def _unreadable(path: object) -> SettingsError:
    return SettingsError(f"MIEN_TLS__...: {path} cannot be read")
