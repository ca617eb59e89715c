"""Licences, known vulnerabilities and the SBOM of what the images install."""

from __future__ import annotations

import importlib.util
import json
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "deploy" / "dependencies.py"

pytest.importorskip("cyclonedx", reason="pip-audit brings it: pip install -e '.[dev]'")


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("dependencies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEPENDENCIES = _module()


def distribution(folder: Path, name: str, *lines: str) -> metadata.Distribution:
    """One that is installed in a folder."""
    place = folder / f"{name}-1.0.dist-info"
    place.mkdir(parents=True)
    text = ["Metadata-Version: 2.4", f"Name: {name}", "Version: 1.0", *lines, ""]
    (place / "METADATA").write_text("\n".join(text))
    return metadata.PathDistribution(place)


def test_what_is_served_is_there_and_what_only_trains_or_tests_is_not() -> None:
    names = {one.name.lower() for one in DEPENDENCIES.served()}
    assert {"mien", "grpcio", "openvino", "faiss-cpu", "scipy", "pymilvus"} <= names
    assert not names & {"torch", "pytest", "ruff", "pip-audit"}


def test_every_licence_of_what_is_served_is_allowed() -> None:
    assert DEPENDENCIES.refused(DEPENDENCIES.served()) == []


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("License-Expression: MIT", True),
        ("License-Expression: MPL-2.0 AND (Apache-2.0 OR MIT)", True),
        ("License-Expression: GPL-3.0-only OR BSD-3-Clause", True),
        ("License-Expression: MIT AND GPL-3.0-only", False),
        ("License-Expression: AGPL-3.0-or-later", False),
        ("Classifier: License :: OSI Approved :: Apache Software License", True),
        ("Classifier: License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("License: Other/Proprietary License", False),
        ("Summary: without a licence", False),
    ],
)
def test_a_licence_that_binds_who_passes_mien_on_is_refused(
    tmp_path: Path, line: str, allowed: bool
) -> None:
    told = DEPENDENCIES.refused([distribution(tmp_path, "made-up", line)])
    assert bool(told) is not allowed
    assert all(one.startswith("made-up 1.0: its licence is") for one in told)


def test_the_sbom_names_mien_and_every_package_with_version_and_licence() -> None:
    packages = DEPENDENCIES.served()
    made = json.loads(DEPENDENCIES.sbom(packages))
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made["metadata"]["component"]["name"] == "mien"
    told = {one["name"]: one for one in made["components"]}
    assert set(told) == {one.name for one in packages} - {"mien"}
    numpy = told["numpy"]
    assert numpy["purl"] == f"pkg:pypi/numpy@{metadata.version('numpy')}"
    assert "BSD-3-Clause" in [one["license"]["name"] for one in numpy["licenses"]]
    (root,) = [one for one in made["dependencies"] if one["ref"].startswith("mien@")]
    assert len(root["dependsOn"]) == len(told)
