"""An installation of one's own."""

from pathlib import Path

import pytest

from tests.unit.zoo.samples import Installation


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)
