"""Writes the error catalogue as a page for callers: `docs/errors.md`."""

from __future__ import annotations

from services.errors import Errors

_HEAD = """\
# Errors

Written by `mien errors` from the catalogue in `services/errors.py`; do not edit it by hand.

The code is the stable name of an error: programs should rely on it, and not on texts. "Unknown",
"no face" and "too poor to decide" are answers, not errors: see the `reasons` of a decision.

"""

_TAIL = """
## Over REST

Every error is one `application/problem+json` object (RFC 9457):

| Member | Meaning |
|---|---|
| `type` | `urn:mien:error:` and the code |
| `title` | the text of the table above, the same each time |
| `status` | the HTTP status |
| `detail` | a sentence about this case; never an exception's text, a name or a part of a picture |
| `instance` | the path of the request |
| `code` | the code of the table above |
| `request_id` | the id of the request, as in the header `x-request-id` and in the log |
| `field` | the field at fault, for example `references[1]`; only where there is one |
| `face_count` | how many faces the picture shows; only with `face_index_out_of_range` |
| `subject_id` | the other subject of the same tenant; only with `duplicate_subject` |
| `retry_after` | seconds to wait before another try, also in the header `Retry-After`; only where \
one helps |

## Over gRPC

The status carries the same sentence as its message, and these details (`google.rpc`, in the
trailing metadata `grpc-status-details-bin`):

| Detail | Meaning |
|---|---|
| `ErrorInfo` | `reason` is the code in capitals, `domain` is `mien`; `metadata` holds `field`, \
`face_count` and `subject_id` where they apply |
| `BadRequest` | the field at fault and why; only where there is one |
| `RetryInfo` | the time to wait before another try; only where one helps |

The request id is in the initial metadata as `x-request-id`.
"""


def errors_markdown() -> str:
    """The page, as Markdown."""
    rows = ["| Code | Title | REST | gRPC | What to do |", "|---|---|---|---|---|"]
    for entry in Errors:
        kind = entry.value
        rows.append(
            f"| `{kind.code}` | {kind.title} | {kind.http} | `{kind.status.name}` | {kind.remedy} |"
        )
    return _HEAD + "\n".join(rows) + "\n" + _TAIL
