"""The error catalogue: one table, the same in the documentation, over REST and over gRPC."""

import re
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2, error_details_pb2
from grpc.aio import AioRpcError, Metadata
from grpc_status import rpc_status

from services.errors import BY_CODE, Errors, MienError
from services.errors_document import errors_markdown
from services.rpc.status import from_rpc_error, to_status

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ALL = pytest.mark.parametrize("error", [*Errors], ids=lambda error: error.value.code)


def test_the_page_is_what_the_catalogue_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == errors_markdown(), "run: mien errors docs/errors.md"


def test_the_page_lists_each_error_once() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| ([^|]+) \| (\d+) \| `(\w+)` \| ([^|]+) \|$", errors_markdown(), re.M
    )
    assert rows == [
        (e.value.code, e.value.title, str(e.value.http), e.value.status.name, e.value.remedy)
        for e in Errors
    ]


@pytest.mark.parametrize(
    "word",
    [
        *("type", "title", "status", "detail", "instance", "code", "request_id", "field"),
        *("face_count", "retry_after", "ErrorInfo", "BadRequest", "RetryInfo", "x-request-id"),
    ],
)
def test_the_page_explains_each_part_of_an_error(word: str) -> None:
    assert f"`{word}`" in errors_markdown()


def test_codes_are_unique_and_plain() -> None:
    codes = [error.value.code for error in Errors]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)*", code) for code in codes)
    assert {code: error.value.code for code, error in BY_CODE.items()} == {c: c for c in codes}


@ALL
def test_an_error_is_an_error_on_both_interfaces(error: Errors) -> None:
    kind = error.value
    assert 400 <= kind.http <= 599
    assert kind.status is not grpc.StatusCode.OK
    # Whose fault it is must not depend on the interface.
    servers_fault = {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert (kind.http >= 500) == (kind.status.name in servers_fault)
    assert kind.title
    assert kind.remedy.endswith(".")


def call_error(status: grpc.Status) -> AioRpcError:
    """What a client catches when a server ends a call with this status."""
    code = status.code
    return AioRpcError(code, Metadata(), Metadata(*status.trailing_metadata), status.details)


@ALL
def test_an_error_is_the_same_on_the_other_side_of_a_call(error: Errors) -> None:
    sent = MienError(
        error, "A sentence with ü.", field="references[1]", retry_after=1.5, face_count=3
    )
    raised = call_error(to_status(sent))
    assert raised.code() is error.value.status
    received = from_rpc_error(raised)
    assert received is not None
    assert received.error is error
    assert received.detail == sent.detail
    assert received.field == "references[1]"
    assert received.retry_after == 1.5
    assert received.face_count == 3


def test_what_an_error_does_not_have_is_not_made_up() -> None:
    received = from_rpc_error(call_error(to_status(MienError(Errors.INTERNAL, "x"))))
    assert received is not None
    assert (received.field, received.retry_after, received.face_count) == (None, None, None)


def details(error: MienError) -> dict[str, bytes]:
    status = rpc_status.from_call(call_error(to_status(error)))  # type: ignore[arg-type]  # has all
    assert status is not None
    assert status.code == code_pb2.Code.Value(error.kind.status.name)
    return {detail.TypeName().rpartition(".")[2]: detail.value for detail in status.details}


def test_the_details_of_a_status() -> None:
    found = details(MienError(Errors.INVALID_REQUEST, "Too large.", field="fmr", retry_after=0.25))
    assert set(found) == {"ErrorInfo", "BadRequest", "RetryInfo"}
    info = error_details_pb2.ErrorInfo.FromString(found["ErrorInfo"])
    assert (info.reason, info.domain) == ("INVALID_REQUEST", "mien")
    assert dict(info.metadata) == {"field": "fmr"}
    (violation,) = error_details_pb2.BadRequest.FromString(found["BadRequest"]).field_violations
    assert (violation.field, violation.description) == ("fmr", "Too large.")
    retry = error_details_pb2.RetryInfo.FromString(found["RetryInfo"])
    assert retry.retry_delay.ToMilliseconds() == 250


def test_details_that_do_not_apply_are_left_out() -> None:
    assert set(details(MienError(Errors.INTERNAL, "x"))) == {"ErrorInfo"}


def test_the_number_of_faces_is_in_the_details() -> None:
    found = details(MienError(Errors.FACE_INDEX_OUT_OF_RANGE, "Two faces.", face_count=2))
    info = error_details_pb2.ErrorInfo.FromString(found["ErrorInfo"])
    assert dict(info.metadata) == {"face_count": "2"}


def test_failures_of_others_are_not_taken_for_ours() -> None:
    plain = AioRpcError(grpc.StatusCode.UNAVAILABLE, Metadata(), Metadata(), "no connection")
    assert from_rpc_error(plain) is None
    foreign = to_status(MienError(Errors.INTERNAL, "x"))
    ((name, value),) = foreign.trailing_metadata
    assert isinstance(value, bytes)
    for ours, theirs in [(b"mien", b"else"), (b"INTERNAL", b"NO_CODES")]:
        assert ours in value
        metadata = Metadata((name, value.replace(ours, theirs)))
        other = AioRpcError(grpc.StatusCode.INTERNAL, Metadata(), metadata, "x")
        assert from_rpc_error(other) is None
