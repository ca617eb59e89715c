"""What the images are made of: licences, an SBOM, and known vulnerabilities.

`python deploy/dependencies.py [--sbom FILE]` looks at the packages that Mien's images install, in
the versions that are installed beside it. It fails where a licence is not one of those below, or
where a vulnerability is known. Vulnerabilities are looked up in the package index; without one that
knows them, it says that nobody has looked.
"""  # noqa: INP001 - a script beside what it checks

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

EXTRAS = ("tracing", "gallery-milvus")
"""That the images install."""

ALLOWED = (
    "0BSD", "Apache", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT",
    "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Zlib",
)  # fmt: skip
"""Licences under which Mien may be passed on with what it needs; MPL-2.0 for unchanged files."""

_NAMES = {
    "3-clause bsd license": "BSD-3-Clause",
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "isc license (iscl)": "ISC",
    "mit license": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
"""Older ways to say it."""

_AUDIT_SECONDS = 120


def served(root: str = "mien", extras: Iterable[str] = EXTRAS) -> list[metadata.Distribution]:
    """The distributions that are installed with Mien, it among them, by name."""
    wanted: dict[str, set[str]] = {}
    waiting = [(root, frozenset(extras))]
    while waiting:
        name, more = waiting.pop()
        key = canonicalize_name(name)
        if key in wanted and more <= wanted[key]:
            continue
        wanted.setdefault(key, set()).update(more)
        for text in metadata.distribution(key).requires or []:
            needed = Requirement(text)
            chosen = wanted[key] | {""}
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": one}) for one in chosen
            ):
                waiting.append((needed.name, frozenset(needed.extras)))
    return [metadata.distribution(name) for name in sorted(wanted)]


def licences(one: metadata.Distribution) -> list[str]:
    """The licences that hold for a distribution together, as SPDX names where they are known."""
    told = one.metadata
    expression = told.get("License-Expression")
    if expression:
        return list(_terms(expression))
    named = [
        line.rpartition(" :: ")[2]
        for line in told.get_all("Classifier", [])
        if line.startswith("License ::")
    ]
    named = named or list(_terms(told.get("License") or "none named"))
    return [_NAMES.get(name.lower(), name) for name in named]


def _terms(expression: str) -> Iterator[str]:
    """What holds together: of "A AND (B OR C)" A, and B or C, whichever is allowed."""
    for part in expression.split(" AND "):
        either = [term.strip("() ").split(" WITH ")[0] for term in part.split(" OR ")]
        yield next((term for term in either if term in ALLOWED), " OR ".join(either))


def refused(distributions: Iterable[metadata.Distribution]) -> list[str]:
    """A line for each distribution with a licence that is not allowed."""
    return [
        f"{one.name} {one.version}: its licence is {name}, which is not in ALLOWED"
        for one in distributions
        for name in licences(one)
        if name not in ALLOWED
    ]


def sbom(distributions: Iterable[metadata.Distribution]) -> str:
    """CycloneDX 1.6 as JSON."""
    bom = Bom()
    for one in distributions:
        component = Component(
            type=ComponentType.LIBRARY,
            name=one.name,
            version=one.version,
            purl=PackageURL("pypi", name=canonicalize_name(one.name), version=one.version),
            bom_ref=f"{one.name}@{one.version}",
            licenses=[DisjunctiveLicense(name=name) for name in licences(one)],
        )
        if canonicalize_name(one.name) == "mien":
            component.type = ComponentType.APPLICATION
            bom.metadata.component = component
        else:
            bom.components.add(component)
    if bom.metadata.component is not None:
        bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2)


def vulnerable(distributions: Iterable[metadata.Distribution]) -> tuple[list[str], int]:
    """A line for each known vulnerability, and how many distributions could be looked up."""
    pinned = [f"{one.name}=={one.version}\n" for one in distributions if one.name != "mien"]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.writelines(pinned)
        file.flush()
        asked = [sys.executable, "-m", "pip_audit", "--requirement", file.name]
        asked += ["--no-deps", "--disable-pip", "--format", "json", "--progress-spinner", "off"]
        try:
            done = subprocess.run(  # noqa: S603 - fixed arguments
                asked, capture_output=True, text=True, timeout=_AUDIT_SECONDS, check=False
            )
            found = json.loads(done.stdout)["dependencies"]
        except (subprocess.TimeoutExpired, ValueError, KeyError):
            return [], 0
    known = [one for one in found if "skip_reason" not in one]
    lines = [
        f"{one['name']} {one['version']}: {fault['id']}, mended in "
        f"{', '.join(fault['fix_versions']) or 'no version yet'}"
        for one in known
        for fault in one["vulns"]
    ]
    return lines, len(known)


def main() -> int:
    """Exit code 1 where a licence is refused or a vulnerability is known."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--sbom", type=Path, help="write the SBOM here")
    asked = options.parse_args()
    distributions = served()
    if asked.sbom is not None:
        asked.sbom.write_text(sbom(distributions) + "\n", encoding="utf-8")
    faults = refused(distributions)
    known, looked_up = vulnerable(distributions)
    for line in [*faults, *known]:
        sys.stderr.write(f"{line}\n")
    if looked_up < len(distributions) - 1:
        sys.stdout.write(
            f"deploy/dependencies.py: known vulnerabilities were looked up for {looked_up} of "
            f"{len(distributions) - 1} packages; this package index does not know the others'\n"
        )
    return 1 if faults or known else 0


if __name__ == "__main__":
    sys.exit(main())
