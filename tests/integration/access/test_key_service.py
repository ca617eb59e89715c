"""API keys over gRPC, and what the audit log says of those who manage keys."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from typer.testing import CliRunner

from services.access import Action
from services.audit.read import Filter, read
from services.audit.trail import place_of
from services.cli.main import app
from services.rpc.mien.v1 import access_pb2, access_pb2_grpc
from tests.integration.access.conftest import Guarded, Metadata, with_key
from tests.integration.harness import Mien, RichError, rich_error
from tests.integration.rest import problem

Stub = access_pb2_grpc.AccessServiceStub
NOBODY = "000000000000"


@contextlib.contextmanager
def _stub(mien: Mien) -> Iterator[Stub]:
    with mien.channel() as channel:
        yield Stub(channel)


def _refused(call: Any, request: Any, metadata: Metadata = ()) -> RichError:
    with pytest.raises(grpc.RpcError) as caught:
        call(request, metadata=metadata)
    return rich_error(caught.value)


def _admin(guarded: Guarded) -> Metadata:
    return with_key(guarded.key("*", Action.ADMIN))


def _until(guarded: Guarded, secret: str, code: int) -> bool:
    """Whether the gateway comes to answer a secret so within two seconds."""
    deadline = time.monotonic() + 2
    with guarded.client(secret) as client:
        while client.get("/v1/models").status_code != code:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


def test_a_keys_life_over_grpc(guarded: Guarded) -> None:
    admin = _admin(guarded)
    with _stub(guarded.mien) as stub:
        ask = access_pb2.CreateKeyRequest(
            tenant="rpc",
            allow=[access_pb2.ACCESS_ACTION_VERIFY],
            name="from afar",
            expires_in_seconds=3600,
            rate="50/minute",
        )
        made = stub.CreateKey(ask, metadata=admin)
        key = made.key
        assert (key.tenant, key.name, key.rate) == ("rpc", "from afar", "50/minute")
        assert list(key.allow) == [access_pb2.ACCESS_ACTION_VERIFY]
        assert key.state == access_pb2.KEY_STATE_ACTIVE
        assert key.expires - key.created == pytest.approx(3600)
        assert not key.HasField("revoked")
        assert _until(guarded, made.secret, httpx.codes.OK)
        again = access_pb2.RotateKeyRequest(id=key.id, grace_seconds=0)
        turned = stub.RotateKey(again, metadata=admin)
        assert _until(guarded, made.secret, httpx.codes.UNAUTHORIZED)
        assert _until(guarded, turned.secret, httpx.codes.OK)
        usual = stub.RotateKey(access_pb2.RotateKeyRequest(id=key.id), metadata=admin)
        assert usual.key.old_secret_until - time.time() == pytest.approx(86400, abs=60)
        assert _until(guarded, turned.secret, httpx.codes.OK), "the old one is taken beside it"
        listed = stub.ListKeys(access_pb2.ListKeysRequest(), metadata=admin)
        assert key.id in [one.id for one in listed.keys]
        assert made.secret.encode() not in listed.SerializeToString()
        ended = stub.RevokeKey(access_pb2.RevokeKeyRequest(id=key.id), metadata=admin)
        assert ended.key.state == access_pb2.KEY_STATE_REVOKED
        assert _until(guarded, usual.secret, httpx.codes.UNAUTHORIZED)


def test_rest_and_grpc_tell_the_same_of_a_key(guarded: Guarded) -> None:
    secret = guarded.key("*", Action.ADMIN)
    with _stub(guarded.mien) as stub, guarded.client(secret) as client:
        body = {"tenant": "both", "allow": ["enrol", "delete"], "expires_in": "24h"}
        made = client.post("/v1/keys", json=body).json()["key"]
        listed = stub.ListKeys(access_pb2.ListKeysRequest(), metadata=with_key(secret))
    (told,) = [one for one in listed.keys if one.id == made["id"]]
    names = [access_pb2.AccessAction.Name(one) for one in told.allow]
    assert names == ["ACCESS_ACTION_DELETE", "ACCESS_ACTION_ENROL"]
    assert (told.tenant, told.HasField("rate")) == ("both", False)
    assert told.expires - told.created == pytest.approx(86400)


_OK: dict[str, Any] = {"tenant": "a", "allow": [access_pb2.ACCESS_ACTION_VERIFY]}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "no such/name"}, "tenant"),
        ({"allow": []}, "allow"),
        ({"allow": [access_pb2.ACCESS_ACTION_UNSPECIFIED]}, "allow"),
        ({"allow": [99]}, "allow"),
        ({"allow": [access_pb2.ACCESS_ACTION_ADMIN]}, "allow"),
        ({"allow": [access_pb2.ACCESS_ACTION_MIGRATE]}, "allow"),
        ({"name": "x" * 101}, "name"),
        ({"rate": ""}, "rate"),
        ({"rate": "fast"}, "rate"),
        ({"expires_in_seconds": -1.0}, "expires_in_seconds"),
        ({"expires_in_seconds": float("nan")}, "expires_in_seconds"),
        ({"expires_in_seconds": float("inf")}, "expires_in_seconds"),
        ({"expires_in_seconds": 1e300}, "expires_in_seconds"),
    ],
    ids=str,
)
def test_a_key_that_may_not_be_is_refused_by_its_field(
    guarded: Guarded, wrong: dict[str, Any], field: str
) -> None:
    with _stub(guarded.mien) as stub:
        refusal = _refused(
            stub.CreateKey, access_pb2.CreateKeyRequest(**{**_OK, **wrong}), _admin(guarded)
        )
    assert (refusal.code, refusal.fields) == (grpc.StatusCode.INVALID_ARGUMENT, [field])


def test_a_tenants_key_manages_no_keys_not_even_its_own_tenants(guarded: Guarded) -> None:
    own = with_key(guarded.key("a"))
    with _stub(guarded.mien) as stub:
        for call, request in (
            (stub.CreateKey, access_pb2.CreateKeyRequest(**_OK)),
            (stub.ListKeys, access_pb2.ListKeysRequest()),
            (stub.RotateKey, access_pb2.RotateKeyRequest(id=NOBODY)),
            (stub.RevokeKey, access_pb2.RevokeKeyRequest(id=NOBODY)),
        ):
            assert _refused(call, request, own).code is grpc.StatusCode.PERMISSION_DENIED


def test_a_key_that_is_not_there_is_unknown_and_a_long_grace_is_refused(guarded: Guarded) -> None:
    admin = _admin(guarded)
    with _stub(guarded.mien) as stub:
        for key_id in (NOBODY, "", "x" * 1000):
            for call, request in (
                (stub.RevokeKey, access_pb2.RevokeKeyRequest(id=key_id)),
                (stub.RotateKey, access_pb2.RotateKeyRequest(id=key_id)),
            ):
                assert _refused(call, request, admin).reason == "KEY_UNKNOWN"
        long = access_pb2.RotateKeyRequest(id=NOBODY, grace_seconds=-0.5)
        assert _refused(stub.RotateKey, long, admin).fields == ["grace_seconds"]


def test_keys_cannot_be_made_over_grpc_where_nobody_is_asked(weightless_mien: Mien) -> None:
    with _stub(weightless_mien) as stub:
        refusal = _refused(stub.CreateKey, access_pb2.CreateKeyRequest(**_OK))
    assert refusal.code is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize("way", ["rest", "grpc"])
def test_who_manages_keys_is_in_the_audit_log_and_no_secret_or_label_is(
    guarded: Guarded, way: str
) -> None:
    secret, tenant = guarded.new_key("*", Action.ADMIN), f"audited-{way}"
    if way == "rest":
        with guarded.client(secret) as client:
            body = {"tenant": tenant, "allow": ["verify"], "name": "Ann Secret"}
            made = client.post("/v1/keys", json=body).json()
            key_id, shown = made["key"]["id"], made["secret"]
            turned = client.post(f"/v1/keys/{key_id}/rotate", json={}).json()["secret"]
            client.delete(f"/v1/keys/{key_id}")
            problem(client.delete(f"/v1/keys/{turned}"), "key_unknown")
    else:
        with _stub(guarded.mien) as stub:
            ask = access_pb2.CreateKeyRequest(**{**_OK, "tenant": tenant, "name": "Ann Secret"})
            answer = stub.CreateKey(ask, metadata=with_key(secret))
            key_id, shown = answer.key.id, answer.secret
            again = access_pb2.RotateKeyRequest(id=key_id)
            turned = stub.RotateKey(again, metadata=with_key(secret)).secret
            stub.RevokeKey(access_pb2.RevokeKeyRequest(id=key_id), metadata=with_key(secret))
            wrong = access_pb2.RevokeKeyRequest(id=turned)
            assert _refused(stub.RevokeKey, wrong, with_key(secret)).reason == "KEY_UNKNOWN"
    folder = place_of(guarded.settings).folder
    told = [one for one in read(folder, Filter()) if one["about"].get("key") == key_id]
    assert [(one["action"], one["outcome"]) for one in told] == [
        (action, outcome)
        for action in ("access.key.create", "access.key.rotate", "access.key.revoke")
        for outcome in ("begun", "done")
    ]
    assert {one["who"] for one in told} == {secret.split("_")[1]}
    assert (told[0]["tenant"], told[0]["about"]["allow"]) == (tenant, ["verify"])
    everything = json.dumps(list(read(folder, Filter())))
    for word in (shown, turned, "Ann Secret"):
        assert word not in everything


def test_commands_about_keys_are_in_the_audit_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIEN_HOME", str(tmp_path))

    def mien(*arguments: str) -> Any:
        done = CliRunner().invoke(app, ["keys", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout[done.stdout.index("{\n") :])  # behind what is logged

    made = mien("create", "--tenant", "shop", "--allow", "verify")
    mien("revoke", made["id"])
    told = list(read(tmp_path / "gallery.sqlite3.audit", Filter()))
    assert [one["action"] for one in told if one["outcome"] == "done" and one["of"]] == [
        "access.key.create",
        "access.key.revoke",
    ]
    assert told[1]["who"].startswith("command:")
