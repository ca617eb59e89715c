"""What every HTTP server of Mien has: limits of connections, headers, TLS and its peers."""

from services.http.server import HttpServer
from services.http.tls import HttpTls, gateway_http_tls, service_http_tls

__all__ = ["HttpServer", "HttpTls", "gateway_http_tls", "service_http_tls"]
