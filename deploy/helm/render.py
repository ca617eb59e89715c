"""Renders the chart with Helm's own library and checks it: `python deploy/helm/render.py`.

With `--values`, it reads values as JSON and writes the objects as JSON: Helm's library is a program
in Go, which is best left alone in a process.

Every example is rendered. What Kubernetes itself defines is held to its schemas, strictly; what
operators define (Prometheus, KEDA) has none there.
"""  # noqa: INP001 - a script beside what it checks

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml

HERE = Path(__file__).parent
CHART = HERE / "mien"
EXAMPLES = HERE / "examples"
KUBERNETES = ("1.27", "1.33")
OPERATORS = ("monitoring.coreos.com", "keda.sh")


def render(values: dict[str, Any], release: str = "mien") -> list[dict[str, Any]]:
    """The objects that an installation would make.

    Raises:
        helm_python.HelmError: the values do not fit, or a template fails.
    """
    import helm_python as helm  # noqa: PLC0415 - it starts Go's threads and signal handlers

    with helm.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        files = chart.render(values, name=release, namespace="faces")
    return [
        document
        for name, text in files.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document
    ]


def faults(document: dict[str, Any]) -> list[str]:
    """What Kubernetes would refuse."""
    if document["apiVersion"].startswith(OPERATORS):
        return []
    found = []
    for version in KUBERNETES:
        try:
            kubernetes_validate.validate(document, version, strict=True)
        except (
            kubernetes_validate.ValidationError,
            kubernetes_validate.SchemaNotFoundError,
        ) as error:
            found.append(f"{document['kind']} {document['metadata']['name']}: {error.message}")
    return found


def main() -> int:
    """Checks the chart and every example; says only what is wrong."""
    import helm_python as helm  # noqa: PLC0415 - see `render`

    if sys.argv[1:] == ["--values"]:
        try:
            print(json.dumps(render(json.load(sys.stdin))))  # noqa: T201 - a command
        except helm.HelmError as error:
            sys.exit(str(error))
        return 0
    wrong = [str(one) for one in helm.lint(CHART)["errors"]]
    for example in (None, *sorted(EXAMPLES.glob("*.yaml"))):
        values = {} if example is None else yaml.safe_load(example.read_text(encoding="utf-8"))
        name = "values.yaml" if example is None else example.name
        try:
            wrong += [f"{name}: {fault}" for one in render(values) for fault in faults(one)]
        except helm.HelmError as error:
            wrong.append(f"{name}: {error}")
    for fault in wrong:
        print(fault, file=sys.stderr)  # noqa: T201 - a command
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
