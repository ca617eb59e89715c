"""Which engine runs a network: the best that works here, or the one that was asked for."""

import logging
import sys
from collections.abc import MutableMapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import structlog

from services.runtime import (
    Engine,
    EngineError,
    EngineOptions,
    available_engines,
    load_engine,
    select,
)
from services.runtime.select import PrecisionChoice
from tests.tiny_networks import write_network

Events = Sequence[MutableMapping[str, Any]]
ENGINES = ("openvino", "onnxruntime")
LIGHT = EngineOptions(threads=2)


@pytest.fixture
def network(tmp_path: Path) -> Path:
    return write_network(tmp_path / "tiny.onnx")


@pytest.fixture
def choosing(monkeypatch: pytest.MonkeyPatch) -> Events:
    """What is logged of the choice, whatever configured logging before."""
    events = structlog.testing.LogCapture()
    logger = structlog.wrap_logger(
        structlog.PrintLogger(),
        processors=[events],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG),
    )
    monkeypatch.setattr("services.runtime.select._log", logger)
    # Engines for other devices have tests of their own, where there are such devices.
    on_cpu = {name: select._ENGINES[name] for name in ENGINES}
    monkeypatch.setattr("services.runtime.select._ENGINES", on_cpu)
    return events.entries


def test_both_engines_are_available_here() -> None:
    assert {name: available_engines()[name] for name in ENGINES} == dict.fromkeys(ENGINES)


def test_auto_takes_the_best(network: Path, choosing: Events) -> None:
    loaded = load_engine(network, "auto", LIGHT)
    assert loaded.info.engine.startswith("openvino ")
    (event,) = choosing
    assert event["log_level"] == "info"
    assert event["why"] == "best that works here"
    loaded.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_by_name(network: Path, engine: str, choosing: Events) -> None:
    loaded = load_engine(network, engine, LIGHT)
    assert loaded.info.engine.startswith(f"{engine} ")
    assert choosing[-1]["why"] == "asked for"
    loaded.close()


@pytest.mark.parametrize("failure", ["cannot load", "not installed"])
def test_auto_falls_back_and_warns(
    network: Path,
    choosing: Events,
    monkeypatch: pytest.MonkeyPatch,
    failure: str,
) -> None:
    if failure == "cannot load":

        def fail(*_: object) -> Engine:
            raise EngineError("OpenVINO cannot load it.")

        monkeypatch.setattr("services.runtime.openvino_engine.OpenVinoEngine", fail)
        reason = "OpenVINO cannot load it."
    else:
        monkeypatch.setitem(sys.modules, "openvino", None)
        monkeypatch.delitem(sys.modules, "services.runtime.openvino_engine")
        reason = "openvino is not installed"
        available = available_engines()
        assert (available["openvino"], available["onnxruntime"]) == (reason, None)
    loaded = load_engine(network, "auto", LIGHT)
    assert loaded.info.engine.startswith("onnxruntime ")
    (event,) = choosing
    assert event["log_level"] == "warning"
    assert reason in event["passed_over"][0]
    loaded.close()


@pytest.mark.parametrize(
    ("precision", "level"), [("auto", "info"), ("bf16", "warning")], ids=["auto", "asked for"]
)
def test_a_cpu_without_bf16_is_a_fault_only_where_that_was_asked_for(
    network: Path,
    choosing: Events,
    monkeypatch: pytest.MonkeyPatch,
    precision: PrecisionChoice,
    level: str,
) -> None:
    capabilities = ["FP32", "INT8", "BIN", "EXPORT_IMPORT"]
    monkeypatch.setattr("openvino.Core.get_property", lambda *_: capabilities)
    loaded = load_engine(network, "auto", LIGHT, precision=precision)
    (event,) = choosing
    assert (event["log_level"], event["precision"]) == (level, "fp32")
    assert loaded.info.engine.startswith("openvino ")
    told = event["also_tried" if precision == "auto" else "passed_over"]
    assert told == ["openvino bf16: This CPU does not compute in bf16."]
    loaded.close()


def test_an_engine_that_was_asked_for_is_not_replaced(
    network: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> Engine:
        raise EngineError("OpenVINO cannot load it.")

    monkeypatch.setattr("services.runtime.openvino_engine.OpenVinoEngine", fail)
    with pytest.raises(EngineError, match="OpenVINO cannot load it"):
        load_engine(network, "openvino", LIGHT)


def test_when_none_can_run_it_each_is_told(tmp_path: Path) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"junk")
    with pytest.raises(EngineError) as caught:
        load_engine(tmp_path / "junk.onnx", "auto", LIGHT)
    assert "openvino fp32: " in str(caught.value)
    assert "onnxruntime fp32: " in str(caught.value)


def test_an_unknown_engine_is_refused_with_those_that_exist(network: Path) -> None:
    with pytest.raises(EngineError, match="no engine 'abacus'") as caught:
        load_engine(network, "abacus", LIGHT)
    assert all(name in str(caught.value) for name in available_engines())
