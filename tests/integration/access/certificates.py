"""Certificates of an authority that tests make."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

_LOCAL = ipaddress.ip_address("127.0.0.1")


class Authority:
    """Signs certificates.

    Args:
        folder: of its files.
        name: of the authority.
    """

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        unsigned = _unsigned(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.file = folder / f"{name}.pem"
        made = unsigned.sign(self._key, hashes.SHA256())
        self.file.write_bytes(made.public_bytes(Encoding.PEM))

    def issue(self, name: str, *hosts: str, local: bool = True) -> tuple[Path, Path]:
        """A certificate and its key, as files; for 127.0.0.1 too if it is ``local``.

        A host with "://" in it is a URI, as SPIFFE's are.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            x509.UniformResourceIdentifier(host) if "://" in host else x509.DNSName(host)
            for host in hosts or ("localhost",)
        ]
        if local:
            names.append(x509.IPAddress(_LOCAL))
        unsigned = _unsigned(_named(name), self._name, key).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        certificate, private = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        made = unsigned.sign(self._key, hashes.SHA256())
        private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        certificate.write_bytes(made.public_bytes(Encoding.PEM))
        return certificate, private


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
