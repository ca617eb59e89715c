"""The one policy: what each REST route and each gRPC method asks of its caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What a caller may be allowed to do."""

    VERIFY = "verify"
    IDENTIFY = "identify"
    ENROL = "enrol"
    DELETE = "delete"
    MIGRATE = "migrate"
    ADMIN = "admin"


EVERYWHERE = frozenset({Action.MIGRATE, Action.ADMIN})
"""Actions that reach into every tenant: only callers of all tenants may have them."""


@dataclass(frozen=True)
class Rule:
    """What is asked of a caller.

    Attributes:
        action: that must be allowed; None where any known caller will do.
        is_open: nobody is asked anything.
    """

    action: Action | None = None
    is_open: bool = False


_OPEN = Rule(is_open=True)
_KNOWN = Rule()
_VERIFY, _IDENTIFY, _ENROL = Rule(Action.VERIFY), Rule(Action.IDENTIFY), Rule(Action.ENROL)
_DELETE, _MIGRATE, _ADMIN = Rule(Action.DELETE), Rule(Action.MIGRATE), Rule(Action.ADMIN)

METRICS = ("GET", "/metrics")
_SUBJECT = "/v1/subjects/{subject_id}"
_MIGRATION = "/v1/migrations/{id}"

REST: Mapping[tuple[str, str], Rule] = {
    ("POST", "/verify"): _VERIFY,
    ("POST", "/v1/verify"): _VERIFY,
    ("POST", "/v1/detect"): _VERIFY,
    ("POST", f"{_SUBJECT}/verify"): _VERIFY,
    ("POST", "/v1/identify"): _IDENTIFY,
    ("POST", "/v1/subjects"): _ENROL,
    ("GET", "/v1/subjects"): _ENROL,
    ("GET", _SUBJECT): _ENROL,
    ("PUT", f"{_SUBJECT}/consent"): _ENROL,
    ("POST", f"{_SUBJECT}/templates"): _ENROL,
    ("POST", "/v1/enrolments"): _ENROL,
    ("DELETE", _SUBJECT): _DELETE,
    ("DELETE", f"{_SUBJECT}/templates/{{template_id}}"): _DELETE,
    ("GET", f"{_SUBJECT}/export"): _DELETE,  # whoever may erase a person may hand out the record
    ("GET", "/v1/gallery"): _KNOWN,
    ("GET", "/v1/models"): _KNOWN,
    ("POST", "/v1/migrations"): _MIGRATE,
    ("GET", "/v1/migrations"): _MIGRATE,
    ("GET", _MIGRATION): _MIGRATE,
    ("GET", f"{_MIGRATION}/shadow"): _MIGRATE,
    ("POST", f"{_MIGRATION}/start"): _MIGRATE,
    ("POST", f"{_MIGRATION}/resume"): _MIGRATE,
    ("POST", f"{_MIGRATION}/pause"): _MIGRATE,
    ("POST", f"{_MIGRATION}/switch"): _MIGRATE,
    ("POST", f"{_MIGRATION}/rollback"): _MIGRATE,
    ("POST", "/v1/keys"): _ADMIN,
    ("GET", "/v1/keys"): _ADMIN,
    ("DELETE", "/v1/keys/{id}"): _ADMIN,
    ("POST", "/v1/keys/{id}/rotate"): _ADMIN,
    ("GET", "/v1/gallery/keys"): _ADMIN,
    ("POST", "/v1/gallery/keys/rotate"): _ADMIN,
    ("POST", "/v1/gallery/keys/rewrap"): _ADMIN,
    ("POST", "/v1/gallery/retention"): _ADMIN,
    ("DELETE", "/v1/gallery/tenants/{tenant}"): _ADMIN,
    ("GET", "/healthz/live"): _OPEN,
    ("GET", "/healthz/ready"): _OPEN,
    METRICS: _OPEN,  # unless the settings ask for a key
    ("GET", "/openapi.json"): _OPEN,
    ("GET", "/docs"): _OPEN,
    ("GET", "/docs/oauth2-redirect"): _OPEN,
    ("GET", "/console"): _OPEN,  # the page alone: what it asks for has rules of its own
    ("GET", "/console/"): _OPEN,
    ("GET", "/console/{file}"): _OPEN,
}

_RPC_BY_SERVICE: Mapping[str, Mapping[str, Rule]] = {
    "mien.v1.FaceService": {"Verify": _VERIFY, "Detect": _VERIFY},
    "mien.v1.GalleryService": {
        "DescribeGallery": _KNOWN,
        "CreateSubject": _ENROL,
        "ListSubjects": _ENROL,
        "GetSubject": _ENROL,
        "ExportSubject": _DELETE,
        "DeleteSubject": _DELETE,
        "SetConsent": _ENROL,
        "DeleteTemplate": _DELETE,
        "Enrol": _ENROL,
        "BulkEnrol": _ENROL,
        "VerifySubject": _VERIFY,
        "Identify": _IDENTIFY,
    },
    "mien.v1.CameraService": {
        "Recognize": _IDENTIFY,
        "ListCameras": _IDENTIFY,
        "GetCameraPolicy": _IDENTIFY,
        "SetCameraPolicy": _ENROL,  # it says what is kept
        "GetBestShot": _IDENTIFY,
        "EnrolTrack": _ENROL,
    },
    "mien.v1.MigrationService": dict.fromkeys(
        (
            "PlanMigration",
            "ListMigrations",
            "GetMigration",
            "StartMigration",
            "PauseMigration",
            "ResumeMigration",
            "SwitchMigration",
            "RollBackMigration",
            "GetShadowReport",
        ),
        _MIGRATE,
    ),
    "mien.v1.AccessService": dict.fromkeys(
        ("CreateKey", "ListKeys", "RotateKey", "RevokeKey"), _ADMIN
    ),
    "grpc.health.v1.Health": {"Check": _OPEN, "List": _OPEN, "Watch": _OPEN},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": _OPEN},
}
RPC: Mapping[str, Rule] = {
    f"/{service}/{method}": rule
    for service, methods in _RPC_BY_SERVICE.items()
    for method, rule in methods.items()
}


def rest_rule(method: str, path: str) -> Rule:
    """The rule of a REST route; one that is not in the table is for administrators.

    Args:
        method: HTTP method.
        path: address as it is described, for example "/v1/subjects/{subject_id}".
    """
    return REST.get((method, path), _ADMIN)


def rpc_rule(method: str) -> Rule:
    """The rule of a gRPC method; one that is not in the table is for administrators.

    Args:
        method: full name, for example "/mien.v1.FaceService/Verify".
    """
    return RPC.get(method, _ADMIN)
