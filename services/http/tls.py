"""TLS of the HTTP servers: of the gateway for its callers, of model services for each other."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from services.rpc.peers import Peers
from services.rpc.tls import peers_of
from services.settings import SettingsError, TlsSettings
from services.telemetry import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True)
class HttpTls:
    """What an HTTP server proves itself with.

    Attributes:
        cert: its certificate, PEM.
        key: its private key, PEM.
        ca: authority of its callers' certificates; None to ask them for none.
        peers: those of them who are let in; None for all.
    """

    cert: Path
    key: Path
    ca: Path | None = None
    peers: Peers | None = None

    def context(self) -> ssl.SSLContext:
        """For the server.

        Raises:
            SettingsError: a file cannot be read, or does not fit.
        """
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            made.load_cert_chain(self.cert, self.key)
            if self.ca is not None:
                made.load_verify_locations(self.ca)
                made.verify_mode = ssl.CERT_REQUIRED
        except OSError as error:  # ssl.SSLError is one
            raise SettingsError(f"MIEN_TLS__...: {self.cert} and its key do not fit") from error
        return made

    def stamps(self) -> tuple[int, ...]:
        """What changes when the certificate or its key changes; empty while they are replaced."""
        try:
            return tuple(one.stat().st_mtime_ns for one in (self.cert, self.key))
        except OSError:
            return ()

    def renew(self, context: ssl.SSLContext) -> None:
        """Has new connections use the certificate as it is now; one that does not fit is left."""
        try:
            context.load_cert_chain(self.cert, self.key)
        except OSError:
            _log.warning("a certificate that has changed does not fit its key", file=self.cert)
        else:
            _log.info("the certificate has changed", file=self.cert)


def gateway_http_tls(settings: TlsSettings) -> HttpTls | None:
    """TLS of the gateway's REST; None for none."""
    if settings.gateway_cert is None or settings.gateway_key is None:
        return None
    return HttpTls(settings.gateway_cert, settings.gateway_key)


def service_http_tls(settings: TlsSettings) -> HttpTls | None:
    """TLS of a model service's HTTP, which answers only whom the authority knows; None for none."""
    if settings.ca is None or settings.cert is None or settings.key is None:
        return None
    return HttpTls(settings.cert, settings.key, settings.ca, peers_of(settings))
