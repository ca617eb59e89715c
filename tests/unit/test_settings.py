"""Settings: what an operator may write, what wins, and what is said of a mistake."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.settings import Settings, SettingsError, check_home, load_settings, variable

_NOBODY = 65534  # a user who owns nothing


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.upper().startswith("MIEN_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that MIEN_CONFIG names; it is still to be written."""
    path = tmp_path / "mien.toml"
    monkeypatch.setenv("MIEN_CONFIG", str(path))
    return path


def refusal() -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings()
    message = str(caught.value)
    assert "pydantic" not in message.lower()
    assert "Traceback" not in message
    return message


def test_a_home_that_is_a_file_or_below_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for home in (file, file / "home"):
        with pytest.raises(SettingsError, match=f"MIEN_HOME: {file} is a file"):
            check_home(home)
    check_home(tmp_path)
    check_home(tmp_path / "not" / "there" / "yet")


_AS_NOBODY = """
import os, sys
from pathlib import Path
from services.settings import SettingsError, check_home

if os.geteuid() == 0:
    os.seteuid(int(sys.argv[2]))
try:
    check_home(Path(sys.argv[1]))
except SettingsError as error:
    print(error)
"""


def test_a_home_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0)
    # In a process of its own: to become another user, all threads of this one must take part.
    done = subprocess.run(
        [sys.executable, "-c", _AS_NOBODY, home, str(_NOBODY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert re.search(r"MIEN_HOME: .*home cannot be read", done.stdout)


def test_without_settings_the_defaults_hold() -> None:
    settings = load_settings()
    assert settings == Settings()
    assert settings.image.max_bytes == 10 * 1024 * 1024
    assert settings.image.max_pixels == 40_000_000
    assert settings.decision.default_fmr == 1e-3
    assert settings.gateway.http_host == "127.0.0.1", "nothing listens to the world by default"
    assert not settings.embedding.frontalize, "no faces are drawn by default"


@pytest.mark.parametrize(
    ("name", "text", "group", "field", "value"),
    [
        ("MIEN_LOG_LEVEL", "debug", None, "log_level", "debug"),
        ("MIEN_HOME", "/srv/mien", None, "home", Path("/srv/mien")),
        ("MIEN_IMAGE__MAX_BYTES", "2048", "image", "max_bytes", 2048),
        ("MIEN_DECISION__DEFAULT_FMR", "1e-4", "decision", "default_fmr", 1e-4),
        ("MIEN_GATEWAY__EMBEDDING_ADDRESS", "em:50052", "gateway", "embedding_address", "em:50052"),
        ("MIEN_EMBEDDING__MODELS", "sface", "embedding", "models", ("sface",)),
        ("MIEN_EMBEDDING__MODELS", "sface, own@2", "embedding", "models", ("sface", "own@2")),
        ("MIEN_EMBEDDING__MODELS", '["sface", "own"]', "embedding", "models", ("sface", "own")),
        ("MIEN_EMBEDDING__FRONTALIZE", "true", "embedding", "frontalize", True),
        ("MIEN_MAPPING__MODELS", "old-to-new@2", "mapping", "models", ("old-to-new@2",)),
        ("MIEN_MAPPING__MODELS", "", "mapping", "models", ()),
        ("MIEN_ENGINE__PREFERENCE", "onnxruntime", "engine", "preference", "onnxruntime"),
    ],
)
def test_a_variable_sets_its_setting(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    text: str,
    group: str | None,
    field: str,
    value: object,
) -> None:
    monkeypatch.setenv(name, text)
    settings: Any = load_settings()
    found = getattr(getattr(settings, group) if group else settings, field)
    assert found == value
    assert variable([group, field] if group else [field]) == name


def test_one_variable_leaves_the_rest_of_its_group_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_GATEWAY__HTTP_PORT", "9000")
    assert load_settings().gateway == Settings().gateway.model_copy(update={"http_port": 9000})


def test_a_file_sets_what_it_names(config: Path) -> None:
    config.write_text('log_level = "error"\n[embedding]\nmodels = ["a", "b@2"]\nmax_batch = 8\n')
    settings = load_settings()
    assert settings.log_level == "error"
    assert settings.embedding.models == ("a", "b@2")
    assert settings.embedding.max_batch == 8
    assert settings.image == Settings.model_fields["image"].default


def test_the_environment_wins_over_the_file(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text("[image]\nmax_bytes = 3000\nmax_pixels = 4000\n")
    monkeypatch.setenv("MIEN_IMAGE__MAX_BYTES", "5000")
    settings = load_settings()
    assert settings.image.max_bytes == 5000
    assert settings.image.max_pixels == 4000


def test_an_argument_wins_over_both(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config.write_text('log_level = "error"\n')
    monkeypatch.setenv("MIEN_LOG_LEVEL", "warning")
    assert load_settings(log_level="debug").log_level == "debug"


@pytest.mark.parametrize(
    "name",
    [
        "MIEN_LOG_LEVLE",
        "MIEN_IMAGES__MAX_BYTES",
        "MIEN_IMAGE__MAX_BYTE",
        "MIEN_HOME__X",
        "MIEN_LOG_LEVEL__DEBUG",
        "MIEN_CONFIGURATION",
        "MIEN_TESTING",
        "MIEN_",
    ],
)
def test_an_unknown_variable_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert refusal().startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("MIEN_LOG_LEVEL", "loud"),
        ("MIEN_IMAGE__MAX_BYTES", "ten"),
        ("MIEN_IMAGE__MAX_BYTES", "1"),
        ("MIEN_DECISION__DEFAULT_FMR", "0"),
        ("MIEN_DECISION__DEFAULT_FMR", "1"),
        ("MIEN_GATEWAY__HTTP_PORT", "65536"),
        ("MIEN_ENGINE__PRECISION", "fp8"),
        ("MIEN_EMBEDDING__MODELS", ""),
        ("MIEN_EMBEDDING__MODELS", "[sface"),
    ],
)
def test_a_bad_value_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    assert refusal().startswith(f"{name}: ")


def test_every_mistake_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_LOG_LEVEL", "loud")
    monkeypatch.setenv("MIEN_IMAGE__MAX_BYTES", "ten")
    names = {line.split(":")[0] for line in refusal().splitlines()}
    assert names == {"MIEN_LOG_LEVEL", "MIEN_IMAGE__MAX_BYTES"}


def test_a_group_that_is_not_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_IMAGE", "{")
    message = refusal()
    assert "MIEN_" in message
    assert "image" in message


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1\n", "MIEN_COLOUR"),
        ("[image]\nmax_byte = 2000\n", "MIEN_IMAGE__MAX_BYTE"),
        ("[image]\nmax_bytes = 1\n", "MIEN_IMAGE__MAX_BYTES"),
    ],
)
def test_a_mistake_in_the_file_is_named(config: Path, text: str, named: str) -> None:
    config.write_text(text)
    assert refusal().startswith(f"{named}: ")


def test_a_file_that_is_not_toml(config: Path) -> None:
    config.write_text("log_level = \n")
    message = refusal()
    assert str(config) in message
    assert "line 1" in message


def test_a_file_that_is_not_there(config: Path) -> None:
    assert refusal() == f"MIEN_CONFIG: there is no file {config}"


def test_variables_of_the_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIEN_TEST_DATA", "/anywhere")
    assert load_settings() == Settings()


def test_settings_cannot_be_changed_while_mien_runs() -> None:
    settings = load_settings()
    with pytest.raises(ValueError, match="frozen"):
        settings.log_level = "debug"  # type: ignore[misc]  # this is what must fail
    with pytest.raises(ValueError, match="frozen"):
        settings.image.max_bytes = 1  # type: ignore[misc]  # likewise


def test_each_nested_setting_says_what_it_is_for() -> None:
    silent = [
        variable([group, name])
        for group in ("image", "decision", "detection")
        for name, field in type(getattr(Settings(), group)).model_fields.items()
        if not field.description
    ]
    assert silent == []
