"""What the chart installs: valid, confined, and in step with the services."""

from __future__ import annotations

import functools
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from services.settings import Settings, load_settings

HELM = Path(__file__).parents[2] / "deploy" / "helm"
SERVICES = ("gateway", "embedding", "enhancement", "mapping")
EXAMPLES = sorted(path.name for path in (HELM / "examples").glob("*.yaml"))
Objects = dict[tuple[str, str], dict[str, Any]]

if importlib.util.find_spec("helm_python") is None:  # importing it would start Go in this process
    pytest.skip("helm-python-sdk: pip install -e '.[dev]'", allow_module_level=True)
pytest.importorskip("kubernetes_validate", reason="kubernetes-validate: pip install -e '.[dev]'")


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", HELM / "render.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


RENDER = _module()


class RefusedError(Exception):
    """Helm does not take the values; the message is Helm's."""


@functools.cache
def _output(values: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HELM / "render.py"), "--values"],
        input=values,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if done.returncode:
        raise RefusedError(done.stderr)
    return done.stdout


def _rendered(values: dict[str, Any]) -> Objects:
    documents = json.loads(_output(json.dumps(values)))
    return {(one["kind"], one["metadata"]["name"]): one for one in documents}


def _example(name: str) -> Objects:
    return _rendered(yaml.safe_load((HELM / "examples" / name).read_text("utf-8")))


def _pods(objects: Objects) -> dict[str, dict[str, Any]]:
    return {
        name.removeprefix("mien-"): one["spec"]["template"]["spec"]
        for (kind, name), one in objects.items()
        if kind == "Deployment"
    }


def _container(pod: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod["containers"]
    own: dict[str, Any] = container
    return own


def test_chart_and_examples_are_what_kubernetes_takes() -> None:
    done = subprocess.run(
        [sys.executable, HELM / "render.py"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_what_kubernetes_would_refuse_is_found() -> None:
    (gateway,) = [
        one
        for (kind, name), one in _rendered({}).items()
        if (kind, name) == ("Deployment", "mien-gateway")
    ]
    assert RENDER.faults(gateway) == []
    gateway["spec"]["template"]["spec"]["containers"][0]["readOnlyRoot"] = True
    assert RENDER.faults(gateway)


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_container_is_confined_and_has_its_probes(example: str) -> None:
    pods = _pods(_example(example))
    assert set(pods) == set(SERVICES)
    for name, pod in pods.items():
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["enableServiceLinks"] is False, name
        container = _container(pod)
        confined = container["securityContext"]
        assert confined["readOnlyRootFilesystem"] is True, name
        assert confined["allowPrivilegeEscalation"] is False, name
        assert confined["capabilities"] == {"drop": ["ALL"]}, name
        assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name
        assert "memory" in container["resources"]["limits"], name
        assert "cpu" not in container["resources"]["limits"], "a quota stops threads in mid-work"


def test_a_start_may_take_as_long_as_engines_are_built() -> None:
    probe = _container(_pods(_example("gpu.yaml"))["embedding"])["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] == 1800


def test_ports_are_those_of_the_settings() -> None:
    settings = Settings()
    objects = _rendered({})
    own = {
        "gateway": (settings.gateway.http_port, settings.gateway.grpc_port),
        **{
            name: (getattr(settings, name).http_port, getattr(settings, name).port)
            for name in SERVICES[1:]
        },
    }
    for name, (http, rpc) in own.items():
        ports = {
            one["name"]: one["port"] for one in objects["Service", f"mien-{name}"]["spec"]["ports"]
        }
        assert ports == {"http": http, "grpc": rpc}, name
        inside = {
            one["name"]: one["containerPort"] for one in _container(_pods(objects)[name])["ports"]
        }
        assert inside == ports, name


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("service", SERVICES)
def test_services_accept_the_settings_that_the_chart_gives(
    example: str, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for one in _container(_pods(_example(example))[service])["env"]:
        if "value" in one:
            monkeypatch.setenv(one["name"], one["value"])
    settings = load_settings()
    if service == "gateway":
        assert settings.gateway.embedding_address == f"mien-embedding:{settings.embedding.port}"
        assert settings.gateway.mapping_address == f"mien-mapping:{settings.mapping.port}"


def test_an_embedded_gallery_has_one_gateway_and_a_volume_that_outlives_the_release() -> None:
    objects = _rendered({})
    gateway = objects["Deployment", "mien-gateway"]["spec"]
    assert gateway["replicas"] == 1
    assert gateway["strategy"]["type"] == "Recreate"
    claim = objects["PersistentVolumeClaim", "mien-gallery"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    for values in ({"replicas": 2}, {"autoscaling": _scaler(enabled=True)}):
        with pytest.raises(RefusedError, match=r"gallery\.uri"):
            _rendered({"gateway": values})


def _scaler(*, enabled: bool) -> dict[str, Any]:
    return {"enabled": enabled, "minReplicas": 2, "maxReplicas": 4, "cpuPercent": 70}


def test_gateways_over_milvus_are_several_and_share_keys_and_audit_log() -> None:
    objects = _example("cluster.yaml")
    volumes = _pods(objects)["gateway"]["volumes"]
    (shared,) = [one for one in volumes if one["name"] == "gallery"]
    assert shared["persistentVolumeClaim"] == {"claimName": "mien-gateways"}
    with pytest.raises(RefusedError, match=r"gallery\.existingClaim"):
        _rendered({"gallery": {"uri": "http://milvus:19530"}})
    assert ("PersistentVolumeClaim", "mien-gallery") not in objects
    assert "replicas" not in objects["Deployment", "mien-gateway"]["spec"], "its scaler sets them"
    assert objects["HorizontalPodAutoscaler", "mien-gateway"]["spec"]["minReplicas"] == 3
    assert ("PodDisruptionBudget", "mien-gateway") in objects
    assert ("PodDisruptionBudget", "mien-mapping") not in objects, "one replica could never move"


def test_embedding_is_scaled_by_its_queue() -> None:
    (trigger,) = _example("cluster.yaml")["ScaledObject", "mien-embedding"]["spec"]["triggers"]
    query = trigger["metadata"]["query"]
    assert 'mien_queue_depth{job="embedding", namespace="faces"}' in query
    keda = {"enabled": True, "minReplicas": 1, "maxReplicas": 2, "rows": 8}
    with pytest.raises(RefusedError, match="autoscaling or keda"):
        _rendered({"embedding": {"keda": keda, "autoscaling": _scaler(enabled=True)}})


def test_only_the_gateway_may_call_the_model_services() -> None:
    objects = _rendered({})
    for name in SERVICES[1:]:
        policy = objects["NetworkPolicy", f"mien-{name}"]["spec"]
        (calls,) = [rule for rule in policy["ingress"] if rule["ports"] == [{"port": "grpc"}]]
        (peer,) = calls["from"]
        labels = peer["podSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/component"] == "gateway", name
        assert all("to" in rule or rule["ports"][0]["port"] == 53 for rule in policy["egress"])
    reached = objects["NetworkPolicy", "mien-gateway"]["spec"]["egress"][0]["ports"]
    assert [one["port"] for one in reached] == [50052, 50053, 50054]


def test_a_gpu_brings_its_image_its_request_and_a_cache_for_its_plans() -> None:
    objects = _example("gpu.yaml")
    pods = _pods(objects)
    embedding = _container(pods["embedding"])
    assert embedding["image"].endswith("-gpu")
    assert embedding["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert ("PersistentVolumeClaim", "mien-embedding-engines") in objects
    mapping = _container(pods["mapping"])
    assert not mapping["image"].endswith("-gpu")
    assert "nvidia.com/gpu" not in mapping["resources"]["limits"]


def test_the_operator_gets_the_tested_alerts_and_the_jobs_that_they_know() -> None:
    objects = _example("cluster.yaml")
    alerts = yaml.safe_load((HELM.parent / "prometheus" / "alerts.yml").read_text("utf-8"))
    assert objects["PrometheusRule", "mien"]["spec"] == alerts
    monitor = objects["ServiceMonitor", "mien"]["spec"]
    label = monitor["jobLabel"]
    jobs = {
        one["metadata"]["labels"][label] for (kind, _), one in objects.items() if kind == "Service"
    }
    assert jobs == set(SERVICES)


@pytest.mark.parametrize(
    "values",
    [
        {"gateways": {}},
        {"embedding": {"replicas": 0}},
        {"embedding": {"replica": 2}},
        {"gallery": {"uri": "milvus:19530"}},
        {"env": {"HOME": "/"}},
        {"gallery": {"size": "much"}},
    ],
)
def test_values_that_are_misspelt_or_out_of_range_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(RefusedError):
        _rendered(values)
