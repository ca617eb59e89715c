"""Every error that Mien answers with: one table for REST and gRPC.

`docs/errors.md` is written from this table and a test keeps the two the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import grpc


@dataclass(frozen=True)
class ErrorKind:
    """How one kind of error looks on each interface.

    Attributes:
        code: stable name that programs can rely on.
        title: short text that is the same each time.
        http: REST status.
        status: gRPC status.
        remedy: what the caller can do, for the documentation.
    """

    code: str
    title: str
    http: int
    status: grpc.StatusCode
    remedy: str


_S = grpc.StatusCode


class Errors(Enum):
    """The catalogue."""

    INVALID_REQUEST = ErrorKind(
        "invalid_request",
        "The request is not valid",
        422,
        _S.INVALID_ARGUMENT,
        "Mend the field that `field` names.",
    )
    MALFORMED_BODY = ErrorKind(
        "malformed_body",
        "The body cannot be read",
        400,
        _S.INVALID_ARGUMENT,
        "Send well-formed multipart or JSON.",
    )
    UNSUPPORTED_MEDIA_TYPE = ErrorKind(
        "unsupported_media_type",
        "The content type is not accepted",
        415,
        _S.INVALID_ARGUMENT,
        "Send multipart/form-data or application/json.",
    )
    REQUEST_TOO_LARGE = ErrorKind(
        "request_too_large",
        "The request is too large",
        413,
        _S.RESOURCE_EXHAUSTED,
        "Send fewer or smaller pictures, or fewer vectors in one call.",
    )
    HEADERS_TOO_LARGE = ErrorKind(
        "headers_too_large",
        "The head of the request is too large",
        431,
        _S.RESOURCE_EXHAUSTED,
        "Send fewer headers, or raise `MIEN_CONNECTIONS__HEADER_BYTES`.",
    )
    REQUEST_TIMEOUT = ErrorKind(
        "request_timeout",
        "The request came too slowly",
        408,
        _S.ABORTED,
        "Send the whole request without a stop; slow callers need a higher "
        "`MIEN_CONNECTIONS__STALLED_SECONDS`.",
    )
    IMAGE_EMPTY = ErrorKind(
        "image_empty",
        "The picture is empty",
        422,
        _S.INVALID_ARGUMENT,
        "Send the bytes of a picture file.",
    )
    IMAGE_TOO_MANY_BYTES = ErrorKind(
        "image_too_many_bytes",
        "The picture file is too large",
        413,
        _S.INVALID_ARGUMENT,
        "Compress the picture or raise `MIEN_IMAGE__MAX_BYTES`.",
    )
    IMAGE_TOO_MANY_PIXELS = ErrorKind(
        "image_too_many_pixels",
        "The picture has too many pixels",
        413,
        _S.INVALID_ARGUMENT,
        "Scale the picture down or raise `MIEN_IMAGE__MAX_PIXELS`.",
    )
    IMAGE_TOO_SMALL = ErrorKind(
        "image_too_small",
        "The picture is too small",
        422,
        _S.INVALID_ARGUMENT,
        "Send a picture of at least 16 x 16 pixels.",
    )
    IMAGE_UNSUPPORTED_FORMAT = ErrorKind(
        "image_unsupported_format",
        "The picture format is not supported",
        415,
        _S.INVALID_ARGUMENT,
        "Send JPEG, PNG, WebP, BMP, TIFF or HEIC.",
    )
    IMAGE_ANIMATED = ErrorKind(
        "image_animated",
        "The file holds several pictures",
        422,
        _S.INVALID_ARGUMENT,
        "Send a single still picture.",
    )
    IMAGE_TRUNCATED = ErrorKind(
        "image_truncated",
        "The picture ends too early",
        422,
        _S.INVALID_ARGUMENT,
        "Send the whole file.",
    )
    IMAGE_CORRUPT = ErrorKind(
        "image_corrupt",
        "The picture cannot be decoded",
        422,
        _S.INVALID_ARGUMENT,
        "Save the picture again and send that file.",
    )
    FACE_INDEX_OUT_OF_RANGE = ErrorKind(
        "face_index_out_of_range",
        "There is no face of that index",
        422,
        _S.OUT_OF_RANGE,
        "Choose an index below `face_count`; `/v1/detect` shows the order.",
    )
    MODEL_UNKNOWN = ErrorKind(
        "model_unknown",
        "The model is not known",
        404,
        _S.NOT_FOUND,
        "`GET /v1/models` lists the models that are served, `ListMaps` the maps.",
    )
    ENHANCER_UNKNOWN = ErrorKind(
        "enhancer_unknown",
        "No such enhancer is served",
        404,
        _S.NOT_FOUND,
        "`ListEnhancers` names those that are; `MIEN_ENHANCEMENT__MODELS` says which are loaded.",
    )
    IDENTITY_MISMATCH = ErrorKind(
        "identity_mismatch",
        "The vectors are of another model version",
        409,
        _S.FAILED_PRECONDITION,
        "Embed again with the version that is live; a map takes vectors of exactly the model, "
        "weights and preprocessing that it was made for (`ListMaps`).",
    )
    THRESHOLD_UNKNOWN = ErrorKind(
        "threshold_unknown",
        "The model has no threshold for that false-match rate",
        422,
        _S.FAILED_PRECONDITION,
        "Choose one of the rates in the model's card, send a threshold, or fit one with "
        "`mien models calibrate`.",
    )
    FRONTALIZE_UNAVAILABLE = ErrorKind(
        "frontalize_unavailable",
        "No synthetic faces are drawn here",
        422,
        _S.FAILED_PRECONDITION,
        "Choose a model whose `can_frontalize` is true; the embedding service must run with "
        "`MIEN_EMBEDDING__FRONTALIZE=true`.",
    )
    NOT_FOUND = ErrorKind(
        "not_found",
        "There is nothing at this address",
        404,
        _S.NOT_FOUND,
        "Check the path.",
    )
    METHOD_NOT_ALLOWED = ErrorKind(
        "method_not_allowed",
        "The method is not allowed here",
        405,
        _S.UNIMPLEMENTED,
        "Use the method that the OpenAPI description names.",
    )
    OVERLOADED = ErrorKind(
        "overloaded",
        "The service is busy",
        429,
        _S.RESOURCE_EXHAUSTED,
        "Try again after `retry_after` seconds.",
    )
    NOT_READY = ErrorKind(
        "not_ready",
        "The service is not ready",
        503,
        _S.UNAVAILABLE,
        "Wait until `/healthz/ready` answers 200.",
    )
    EMBEDDING_UNAVAILABLE = ErrorKind(
        "embedding_unavailable",
        "The embedding service does not answer",
        503,
        _S.UNAVAILABLE,
        "Try again; if it lasts, look at the embedding service's health.",
    )
    ENHANCEMENT_UNAVAILABLE = ErrorKind(
        "enhancement_unavailable",
        "The enhancement service does not answer",
        503,
        _S.UNAVAILABLE,
        "Try again; if it lasts, look at the enhancement service's health.",
    )
    MAPPING_UNAVAILABLE = ErrorKind(
        "mapping_unavailable",
        "The mapping service does not answer",
        503,
        _S.UNAVAILABLE,
        "Try again; if it lasts, look at the mapping service's health.",
    )
    SUBJECT_UNKNOWN = ErrorKind(
        "subject_unknown",
        "There is no such subject",
        404,
        _S.NOT_FOUND,
        "Check the id; it may have been deleted.",
    )
    SUBJECT_EXISTS = ErrorKind(
        "subject_exists",
        "There is such a subject already",
        409,
        _S.ALREADY_EXISTS,
        "Choose another id, or change the subject that is there.",
    )
    TEMPLATE_UNKNOWN = ErrorKind(
        "template_unknown",
        "There is no such template",
        404,
        _S.NOT_FOUND,
        "Check the id; it may have been deleted with its subject.",
    )
    TEMPLATE_INVALID = ErrorKind(
        "template_invalid",
        "The template cannot be stored or compared",
        422,
        _S.INVALID_ARGUMENT,
        "Send finite vectors of the model's dimension, and numbers within their ranges.",
    )
    DUPLICATE_SUBJECT = ErrorKind(
        "duplicate_subject",
        "Another subject has this face",
        409,
        _S.ALREADY_EXISTS,
        "Enrol for the subject that `subject_id` names, or say `allow_duplicate` if they are two "
        "people.",
    )
    GALLERY_MODEL_UNAVAILABLE = ErrorKind(
        "gallery_model_unavailable",
        "The model that the gallery lives by is not served",
        503,
        _S.UNAVAILABLE,
        "Serve that version with the same weights (`MIEN_EMBEDDING__MODELS`), or migrate.",
    )
    CONSENT_WITHDRAWN = ErrorKind(
        "consent_withdrawn",
        "The subject has withdrawn consent",
        409,
        _S.FAILED_PRECONDITION,
        "Give consent again before anything is enrolled.",
    )
    IDEMPOTENCY_KEY_REUSED = ErrorKind(
        "idempotency_key_reused",
        "The idempotency key belongs to another request",
        409,
        _S.ALREADY_EXISTS,
        "Send a key of its own with every enrolment, and the same one only to repeat it.",
    )
    COLLECTION_UNKNOWN = ErrorKind(
        "collection_unknown",
        "The gallery has no templates of that model version",
        404,
        _S.NOT_FOUND,
        "`mien gallery info` lists the versions that it has.",
    )
    COLLECTION_LIVE = ErrorKind(
        "collection_live",
        "The model version is live",
        409,
        _S.FAILED_PRECONDITION,
        "Switch to another version first.",
    )
    GALLERY_EMPTY = ErrorKind(
        "gallery_empty",
        "The gallery holds nothing yet",
        409,
        _S.FAILED_PRECONDITION,
        "Enrol somebody first.",
    )
    MIGRATION_BEHIND = ErrorKind(
        "migration_behind",
        "Templates have come that the migration has not seen",
        409,
        _S.ABORTED,
        "Run the migration again until it has caught up, then switch.",
    )
    MIGRATION_UNKNOWN = ErrorKind(
        "migration_unknown",
        "There is no such migration",
        404,
        _S.NOT_FOUND,
        "`mien migrate status` lists the migrations that have been planned.",
    )
    MIGRATION_STATE = ErrorKind(
        "migration_state",
        "The migration does not stand where that can be done",
        409,
        _S.FAILED_PRECONDITION,
        "`mien migrate status` says where it stands, docs/migration.md what comes next.",
    )
    MIGRATION_BUSY = ErrorKind(
        "migration_busy",
        "The migration is being worked on",
        409,
        _S.ABORTED,
        "Wait for it, or pause it first.",
    )
    MIGRATION_LOSES = ErrorKind(
        "migration_loses",
        "Subjects would no longer be found",
        409,
        _S.FAILED_PRECONDITION,
        "Serve the map that is missing or let these subjects enrol again, or accept the loss.",
    )
    CAMERA_TAKEN_OVER = ErrorKind(
        "camera_taken_over",
        "Another stream sends this camera's frames now",
        409,
        _S.ABORTED,
        "Send the frames of one camera in one stream at a time; the later one goes on.",
    )
    TRACK_UNKNOWN = ErrorKind(
        "track_unknown",
        "There is no such track",
        404,
        _S.NOT_FOUND,
        "Use the track while it is seen, or within `keep_track_seconds` of its camera's policy.",
    )
    SHOT_NOT_KEPT = ErrorKind(
        "shot_not_kept",
        "The picture of that track is not kept",
        404,
        _S.NOT_FOUND,
        "Set `keep_best_shot_seconds` in the camera's policy, and fetch the picture in time.",
    )
    GALLERY_UNAVAILABLE = ErrorKind(
        "gallery_unavailable",
        "The gallery cannot be used",
        503,
        _S.UNAVAILABLE,
        "Try again; if it lasts, look at the log and at `MIEN_GALLERY__URI`.",
    )
    AUDIT_UNAVAILABLE = ErrorKind(
        "audit_unavailable",
        "The audit log cannot be written",
        503,
        _S.UNAVAILABLE,
        "Nothing was changed. Try again; if it lasts, look at the disk of `MIEN_AUDIT__FOLDER`.",
    )
    UNAUTHENTICATED = ErrorKind(
        "unauthenticated",
        "A valid API key or token is needed",
        401,
        _S.UNAUTHENTICATED,
        "Send `Authorization: Bearer ...` or `X-API-Key`; `mien keys create` makes a key.",
    )
    PERMISSION_DENIED = ErrorKind(
        "permission_denied",
        "The caller may not do that",
        403,
        _S.PERMISSION_DENIED,
        "Use a key of that tenant that allows the action that `detail` names.",
    )
    RATE_LIMITED = ErrorKind(
        "rate_limited",
        "The caller sends too many requests",
        429,
        _S.RESOURCE_EXHAUSTED,
        "Wait for `retry_after` seconds; `MIEN_ACCESS__RATE` and the key's own rate say how many.",
    )
    KEY_UNKNOWN = ErrorKind(
        "key_unknown",
        "There is no such API key",
        404,
        _S.NOT_FOUND,
        "`mien keys list` names the keys.",
    )
    ACCESS_UNAVAILABLE = ErrorKind(
        "access_unavailable",
        "Callers cannot be checked",
        503,
        _S.UNAVAILABLE,
        "Try again; if it lasts, look at the log and at `MIEN_ACCESS__DATABASE`.",
    )
    DEADLINE_EXCEEDED = ErrorKind(
        "deadline_exceeded",
        "The request took too long",
        504,
        _S.DEADLINE_EXCEEDED,
        "Try again, or allow more time.",
    )
    INTERNAL = ErrorKind(
        "internal",
        "Something went wrong inside Mien",
        500,
        _S.INTERNAL,
        "Report the request id; the cause is in the log under it.",
    )


BY_CODE = {entry.value.code: entry for entry in Errors}


class MienError(Exception):
    """An error with a place in the catalogue.

    Args:
        error: its kind.
        detail: one sentence for the caller; never an exception's text, a name or picture data.
        field: the request's field at fault, for example "references[1]".
        retry_after: seconds after which the caller may try again.
        face_count: how many faces there are, where the number explains the error.
        subject_id: another subject of the same tenant, where that explains the error.
    """

    def __init__(
        self,
        error: Errors,
        detail: str,
        *,
        field: str | None = None,
        retry_after: float | None = None,
        face_count: int | None = None,
        subject_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.error = error
        self.detail = detail
        self.field = field
        self.retry_after = retry_after
        self.face_count = face_count
        self.subject_id = subject_id

    @property
    def kind(self) -> ErrorKind:
        """Its row in the catalogue."""
        return self.error.value
