"""What the doctor sees in a machine and in a set-up, and what it advises."""

from __future__ import annotations

import asyncio
import json
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.doctor import Finding, State, machine, setup, stores
from services.gallery.embedded.database import Database
from services.gallery.embedded.keys import new_key, write_key
from services.settings import EngineSettings, GallerySettings, GatewaySettings, Settings
from tests.integration.harness import free_port, run_mien

GIB = 1024**3


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_cpu_features_are_told_with_what_they_are_good_for(tmp_path: Path) -> None:
    flags = "model name\t: Some CPU\nflags\t\t: fpu sse2 avx2 avx512f avx512_vnni amx_tile\n"
    found = machine.cpu(_written(tmp_path / "new", flags))
    assert found.state is State.OK
    for name in ("AVX2", "AVX-512", "VNNI", "AMX"):
        assert f"{name}: " in found.found
    assert "BF16" not in found.found
    old = machine.cpu(_written(tmp_path / "old", "flags\t\t: fpu sse2 avx\n"))
    assert old.state is State.NOTE
    assert "AVX2" in old.remedy


@pytest.mark.parametrize(
    "files",
    [
        {"cpu.max": "50000 100000\n"},
        {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
    ],
)
def test_a_quota_below_the_cpus_that_are_seen_is_told(
    tmp_path: Path, files: dict[str, str]
) -> None:
    for name, text in files.items():
        _written(tmp_path / name, text)
    found = machine.cores(tmp_path)
    assert found.state is State.NOTE
    assert "0.5 may be used" in found.found
    assert "MIEN_ENGINE__THREADS=1" in found.remedy


def test_no_quota_is_no_remark(tmp_path: Path) -> None:
    _written(tmp_path / "cpu.max", "max 100000\n")
    assert machine.cores(tmp_path).state is State.OK


def test_too_little_memory_is_wrong_whether_of_machine_or_container(tmp_path: Path) -> None:
    plenty = _written(tmp_path / "plenty", f"MemAvailable: {8 * GIB // 1024} kB\n")
    little = _written(tmp_path / "little", "MemAvailable: 300000 kB\n")
    free, tight = tmp_path / "free", tmp_path / "tight"
    _written(free / "memory.max", "max\n")
    _written(tight / "memory.max", f"{GIB // 2}\n")
    assert machine.memory(plenty, free).state is State.OK
    assert machine.memory(little, free).state is State.WRONG
    limited = machine.memory(plenty, tight)
    assert limited.state is State.WRONG
    assert "limited to 0.5 GiB" in limited.found


def test_a_gpu_that_no_engine_can_use_is_told_only_where_there_is_a_driver(tmp_path: Path) -> None:
    driver = _written(tmp_path / "version", "NVRM version")
    assert machine.gpu("no TensorRT", tmp_path / "none").state is State.OK
    assert machine.gpu(None, driver).state is State.OK
    idle = machine.gpu("no TensorRT", driver)
    assert idle.state is State.NOTE
    assert "no TensorRT" in idle.found


def test_a_clock_in_the_past_is_wrong() -> None:
    assert machine.clock().state is State.OK
    assert machine.clock(time.time() - 10 * 365 * 24 * 3600).state is State.WRONG


def _settings(home: Path, **groups: object) -> Settings:
    return Settings.model_validate({"home": home, **groups})


def test_a_home_that_is_a_file_is_wrong_and_one_that_is_not_there_yet_is_not(
    tmp_path: Path,
) -> None:
    assert setup.home(_settings(tmp_path / "new" / "home")).state is State.OK
    assert not (tmp_path / "new").exists(), "it changes nothing"
    file = _written(tmp_path / "file", "")
    assert setup.home(_settings(file)).state is State.WRONG


def test_a_full_disk_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("services.doctor.setup.shutil.disk_usage", lambda _: usage)
    assert setup.home(_settings(tmp_path)).state is State.WRONG


def test_weights_that_are_missing_or_of_no_known_model_are_named(tmp_path: Path) -> None:
    settings = _settings(tmp_path, embedding={"models": ["poseface", "sface", "nobody"]})
    found = {one.check: one for one in setup.weights(settings)}
    assert found["weights of poseface"].state is State.OK
    assert "mien models pull sface" in found["weights of sface"].remedy
    assert found["weights of nobody"].state is State.WRONG


def test_an_engine_that_is_asked_for_and_absent_is_wrong(tmp_path: Path) -> None:
    here = {"tensorrt": "no CUDA device", "openvino": None, "onnxruntime": None}
    asked = _settings(tmp_path, engine=EngineSettings(preference="tensorrt"))
    refused = setup.engines(asked, here)
    assert refused.state is State.WRONG
    assert "no CUDA device" in refused.found
    best = setup.engines(_settings(tmp_path), here)
    assert best.state is State.OK
    assert "auto takes openvino" in best.found


def test_a_port_that_a_stranger_has_taken_is_wrong(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = GatewaySettings(http_port=port, grpc_port=free_port())
        http, rpc = setup.ports(_settings(tmp_path, gateway=gateway))
    assert http.state is State.WRONG
    assert "MIEN_GATEWAY__HTTP_PORT" in http.remedy
    assert rpc.state is State.OK


def test_a_service_that_does_not_answer_is_wrong(tmp_path: Path) -> None:
    gateway = GatewaySettings(embedding_address=f"127.0.0.1:{free_port()}")
    (found,) = setup.others(_settings(tmp_path, gateway=gateway))
    assert found.state is State.WRONG
    assert "mien serve embedding" in found.remedy


def _gallery(database: Path) -> Finding:
    return stores.gallery(_settings(database.parent, gallery={"uri": f"sqlite:{database}"}))


def test_an_embedded_gallery_is_looked_at_without_being_touched(tmp_path: Path) -> None:
    database = tmp_path / "gallery.sqlite3"
    key = tmp_path / "gallery.sqlite3.key"
    assert "will be made" in _gallery(database).found
    assert not list(tmp_path.iterdir())
    held = Database(database)
    lost = _gallery(database)
    assert lost.state is State.WRONG
    assert "master key" in lost.found
    write_key(key, new_key())
    assert "held by a running Mien" in _gallery(database).found
    asyncio.run(held.close())
    before = sorted(path.name for path in tmp_path.iterdir())
    assert _gallery(database).state is State.OK
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    key.chmod(0o644)
    assert f"chmod 600 {key}" in _gallery(database).remedy
    database.write_bytes(b"no database at all" * 100)
    assert "Restore a backup" in _gallery(database).remedy
    key.write_text("no key")
    assert _gallery(database).state is State.WRONG
    with pytest.raises(sqlite3.DatabaseError):
        sqlite3.connect(database).execute("SELECT * FROM sqlite_schema")


def test_milvus_that_does_not_listen_and_unknown_addresses_are_wrong(tmp_path: Path) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    away = stores.gallery(_settings(tmp_path, gallery=GallerySettings(uri=uri)))
    assert away.state is State.WRONG
    assert "Connection refused" in away.found
    odd = stores.gallery(_settings(tmp_path, gallery=GallerySettings(uri="postgres://x")))
    assert odd.state is State.WRONG


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    port = free_port()
    command = ["redis-server", "--port", str(port), "--save", "", "--bind", "127.0.0.1"]
    try:
        server = subprocess.Popen(
            [*command, "--requirepass", "secret"], cwd=tmp_path, stdout=subprocess.DEVNULL
        )
    except FileNotFoundError:
        pytest.skip("redis-server is not installed")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield port
    server.terminate()
    server.wait(timeout=20)


def test_redis_is_asked_and_its_password_is_not_told(redis_port: int) -> None:
    assert stores.redis("").state is State.OK
    right = stores.redis(f"redis://:secret@127.0.0.1:{redis_port}/0")
    assert right.state is State.OK, right
    false = stores.redis(f"redis://:false-word@127.0.0.1:{redis_port}/0")
    assert false.state is State.WRONG
    assert "false-word" not in str(false)
    assert stores.redis(f"redis://127.0.0.1:{free_port()}").state is State.WRONG


def test_every_fault_comes_with_a_remedy_and_exit_code_one(tmp_path: Path) -> None:
    port = free_port()
    ports = {"GATEWAY__HTTP_PORT": port, "GATEWAY__GRPC_PORT": free_port()}
    models = {"EMBEDDING__MODELS": "poseface", "DETECTION__MODEL": "poseface"}
    done = run_mien(tmp_path, "doctor", "--json", **ports, **models)
    told = json.loads(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert told["wrong"] == 0
    done = run_mien(tmp_path, "doctor", "--json", ENGINE__PREFERENCE="tensorrt", **ports)
    told = json.loads(done.stdout)
    assert done.returncode == 1
    faults = [one for one in told["findings"] if one["state"] == "wrong"]
    assert {"engines", "weights of yunet"} <= {one["check"] for one in faults}
    assert all(one["remedy"] for one in faults)
    assert not list(tmp_path.iterdir()), "it changes nothing"


def test_settings_that_cannot_be_read_are_explained_and_do_not_end_the_examination(
    tmp_path: Path,
) -> None:
    done = run_mien(tmp_path, "doctor", GATEWAY__HTTP_PORT="many")
    assert done.returncode == 1
    assert "MIEN_GATEWAY__HTTP_PORT" in done.stdout
    assert "cpu" in done.stdout
