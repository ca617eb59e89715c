from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Decoded toy faces and what the teacher says of them, shared by all tests."""
    return tmp_path_factory.mktemp("ddat-cache")
