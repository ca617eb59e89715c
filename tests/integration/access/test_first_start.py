"""The first start, and the commands about keys."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services.access import access_is_required
from services.access.opening import open_guard, open_keys
from services.access.policy import Action
from services.cli.main import app
from services.errors import MienError
from services.settings import Settings
from services.shared import limits_storage
from tests.integration.access.conftest import Guarded, guarded_mien
from tests.integration.harness import Mien
from tests.integration.rest import problem


def settings(folder: Path, **gateway: Any) -> Settings:
    given = {"home": folder, "gateway": gateway}
    return Settings.model_validate(given)


@pytest.mark.parametrize(
    ("host", "required", "expected"),
    [
        ("127.0.0.1", "auto", False),
        ("::1", "auto", False),
        ("localhost", "auto", False),
        ("127.0.0.1", "always", True),
        ("0.0.0.0", "auto", True),  # noqa: S104 - nothing listens
        ("192.0.2.7", "auto", True),
        ("gateway.example", "auto", True),
        ("0.0.0.0", "never", False),  # noqa: S104
    ],
)
def test_access_is_checked_as_soon_as_others_can_reach_the_gateway(
    host: str, required: str, expected: bool
) -> None:
    for name in ("http_host", "grpc_host"):
        given = {"gateway": {name: host}, "access": {"required": required}}
        assert access_is_required(Settings.model_validate(given)) is expected


async def test_the_first_start_makes_one_key_and_says_where(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = settings(tmp_path, http_host="0.0.0.0")  # noqa: S104 - nothing listens
    for _ in range(2):
        guard = open_guard(own, limits_storage(own))
        assert guard is not None
        await guard.close()
    file = tmp_path / "admin.key"
    secret = file.read_text(encoding="ascii").strip()
    assert file.stat().st_mode & 0o777 == 0o600
    said = capsys.readouterr()
    assert (said.out + said.err).count(str(file)) == 1
    assert secret not in said.out + said.err
    store, _ = open_keys(own)
    (key,) = store.all()
    assert (key.tenant, key.actions) == ("*", frozenset(Action))
    store.revoke(key.id)
    store.close()
    file.unlink()
    guard = open_guard(own, limits_storage(own))
    assert guard is not None
    await guard.close()
    assert not file.exists()  # a key that was taken away does not come back


def test_a_start_on_this_machine_alone_makes_nothing(tmp_path: Path) -> None:
    own = settings(tmp_path)
    assert open_guard(own, limits_storage(own)) is None
    assert list(tmp_path.iterdir()) == []


def test_the_first_key_opens_everything(mien_home: Path, tmp_path: Path) -> None:
    with guarded_mien(mien_home, tmp_path, open_metrics=False) as made:
        secret = (tmp_path / "admin.key").read_text(encoding="ascii").strip()
        with made.client(secret) as client:
            for path in ("/v1/subjects", "/v1/migrations", "/metrics"):
                assert client.get(path).status_code == httpx.codes.OK
        with made.client(made.key("a")) as client:
            problem(client.get("/metrics"), "permission_denied")
            assert client.get("/healthz/ready").status_code == httpx.codes.OK
        with made.client() as client:
            problem(client.get("/metrics"), "unauthenticated")


def keys(folder: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Any:
    """What `mien keys ... --json` prints."""
    monkeypatch.setenv("MIEN_ACCESS__DATABASE", str(folder / "access.sqlite3"))
    monkeypatch.setenv("MIEN_HOME", str(folder))  # of the audit log
    done = CliRunner().invoke(app, ["keys", *arguments, "--json"])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return json.loads(done.stdout[done.stdout.index("{\n") :])  # behind what is logged


def test_a_keys_life_by_commands(guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(str(guarded.settings.access.database)).parent
    made = keys(
        folder, monkeypatch, "create", "--tenant", "shop", "--allow", "identify,enrol",
        "--expires", "90d", "--name", "till [1]", "--rate", "50/minute",
    )  # fmt: skip
    secret, key_id = made.pop("secret"), made["id"]
    assert (made["tenant"], made["allow"], made["state"]) == (
        "shop", ["enrol", "identify"], "active",
    )  # fmt: skip
    assert made["last_used"] is None
    with guarded.client(secret) as old:
        assert _until(old, httpx.codes.OK)
        turned = keys(folder, monkeypatch, "rotate", key_id, "--grace", "1h")
        with guarded.client(turned["secret"]) as new:
            assert _until(new, httpx.codes.OK)
            assert old.get("/v1/subjects").status_code == httpx.codes.OK
            listed = keys(folder, monkeypatch, "list")["keys"]
            (shown,) = [one for one in listed if one["id"] == key_id]
            assert shown["last_used"] is not None
            assert secret not in json.dumps(listed)
            assert keys(folder, monkeypatch, "revoke", key_id)["state"] == "revoked"
            assert _until(new, httpx.codes.UNAUTHORIZED)
        problem(old.get("/v1/subjects"), "unauthenticated")


def test_a_keys_life_over_rest(guarded: Guarded) -> None:
    with guarded.client(guarded.key("*", Action.ADMIN)) as admin:
        body = {"tenant": "rest", "allow": ["enrol"], "expires_in": "1h", "name": "from afar"}
        answer = admin.post("/v1/keys", json=body)
        assert answer.status_code == httpx.codes.CREATED
        key, secret = answer.json()["key"], answer.json()["secret"]
        assert (key["tenant"], key["allow"], key["state"]) == ("rest", ["enrol"], "active")
        with guarded.client(secret) as client:
            assert _until(client, httpx.codes.OK)
            turned = admin.post(f"/v1/keys/{key['id']}/rotate", json={"grace": "0s"}).json()
            assert _until(client, httpx.codes.UNAUTHORIZED)
        with guarded.client(turned["secret"]) as client:
            assert _until(client, httpx.codes.OK)
            listed = admin.get("/v1/keys")
            assert key["id"] in [one["id"] for one in listed.json()["keys"]]
            assert secret not in listed.text
            assert admin.delete(f"/v1/keys/{key['id']}").json()["key"]["state"] == "revoked"
            assert _until(client, httpx.codes.UNAUTHORIZED)
        problem(admin.delete("/v1/keys/000000000000"), "key_unknown")
        problem(admin.post("/v1/keys", json=body | {"allow": ["admin"]}), "invalid_request")
        problem(admin.post("/v1/keys", json=body | {"expires_in": "soon"}), "invalid_request")


def test_keys_cannot_be_made_from_afar_where_nobody_is_asked(weightless_mien: Mien) -> None:
    with weightless_mien.client() as client:
        body = {"tenant": "*", "allow": ["admin"]}
        problem(client.post("/v1/keys", json=body), "permission_denied")
        problem(client.get("/v1/keys"), "permission_denied")


def _until(client: httpx.Client, code: int) -> bool:
    """Whether the gateway comes to answer so within two seconds."""
    deadline = time.monotonic() + 2
    while client.get("/v1/subjects").status_code != code:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_table_of_keys_shows_labels_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys(tmp_path, monkeypatch, "create", "--tenant", "a", "--allow", "verify", "--name", "[red]x")
    shown = CliRunner().invoke(app, ["keys", "list"])
    assert "[red]x" in shown.stdout
    assert "never" in shown.stdout


def test_a_command_that_asks_for_too_much_makes_no_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(MienError, match="every tenant"):
        keys(tmp_path, monkeypatch, "create", "--tenant", "a", "--allow", "admin")
    assert keys(tmp_path, monkeypatch, "list") == {"keys": []}
