from pathlib import Path
from typing import cast
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from PIL import Image

from models.evaluation import plots
from models.evaluation.plots import ScoreSet, probit, write_curves

RNG = np.random.default_rng(0)
GOOD = ScoreSet(RNG.normal(size=300) + 3, RNG.normal(size=2000))
FAILING = ScoreSet([0.4, 0.9, -np.inf], [0.1, 0.5, -np.inf, 0.2])
STEMS = ("roc", "det", "scores")


def words(svg: Path) -> str:
    """The text of a figure; matplotlib leaves it in comments beside the drawn glyphs."""
    parser = ET.XMLParser(target=ET.TreeBuilder(insert_comments=True))  # noqa: S314
    root = ET.parse(svg, parser).getroot()  # noqa: S314
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    tags = ((cast("object", node.tag), node.text) for node in root.iter())
    return "\n".join(text or "" for tag, text in tags if tag is ET.Comment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("figures") / "new" / "folder"
    written = write_curves(target, {"poseface@1": GOOD, "cheap $5 model": FAILING})
    assert sorted(written) == sorted(target.iterdir())
    assert {path.name for path in written} == {f"{s}.{e}" for s in STEMS for e in ("png", "svg")}
    return target


@pytest.mark.parametrize("stem", STEMS)
def test_pictures_show_both_models(folder: Path, stem: str) -> None:
    with Image.open(folder / f"{stem}.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    drawn = [(r, g, b) for count, (r, g, b) in colours if count > 50]  # type: ignore[misc]
    blue = any(b > r + 60 for r, _, b in drawn)
    orange = any(r > b + 60 for r, _, b in drawn)
    assert blue
    assert orange


def test_axes_and_titles_are_in_the_terms_of_the_standard(folder: Path) -> None:
    roc, det, scores = (words(folder / f"{stem}.svg") for stem in STEMS)
    for text in (roc, det):
        assert "False match rate (FMR)" in text
        assert "poseface@1 (300 genuine, 2,000 impostor pairs)" in text
        assert "2,307 pairs in all" in text
    assert "1 − FNMR" in roc
    assert "False non-match rate (FNMR)" in det
    assert "3 genuine, 4 impostor pairs, 2 of them failed" in scores


def test_one_model_has_its_pairs_in_the_title_and_the_same_file_again(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_curves(tmp_path / name, {"poseface@1": GOOD})
    assert "DET: 300 genuine, 2,000 impostor pairs" in words(tmp_path / "a" / "det.svg")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_scores_without_any_overlap_or_acquisition_can_be_drawn(tmp_path: Path) -> None:
    hopeless = ScoreSet([-np.inf], [-np.inf, -np.inf])
    write_curves(tmp_path, {"perfect": ScoreSet([0.9], [0.1]), "hopeless": hopeless})
    assert "1 genuine, 2 impostor pairs, 3 of them failed" in words(tmp_path / "scores.svg")


def test_curves_of_the_worked_example() -> None:
    model = plots._model(0, "example", ScoreSet([0.9, 0.8, 0.4], [0.5, 0.3, 0.2, 0.1]))
    # Rates of zero are drawn half a comparison away: 1/8 of an impostor, 1/6 of a genuine pair.
    fmr, fnmr = np.array([1 / 8, 1 / 4, 1 / 2, 3 / 4, 1]), np.array([1 / 3, 0, 0, 0, 0])
    roc = plots._roc([model]).axes[0].lines[0]
    np.testing.assert_allclose(np.asarray(roc.get_xydata()), np.stack([fmr, 1 - fnmr], axis=1))
    det = plots._det([model]).axes[0].lines[0]
    shown = np.minimum(fmr, 7 / 8), np.maximum(fnmr, 1 / 6)
    np.testing.assert_allclose(
        np.asarray(det.get_xydata()), np.stack([probit(r) for r in shown], axis=1)
    )


def test_long_curves_keep_their_strict_end() -> None:
    impostor = np.arange(100_000) / 100_000
    model = plots._model(0, "long", ScoreSet([0.9999, 0.5], impostor))
    drawn = np.asarray(plots._roc([model]).axes[0].lines[0].get_xydata())
    assert 200 < len(drawn) <= plots.CURVE_POINTS + 1
    np.testing.assert_allclose(drawn[:4, 0], [0.5e-5, 1e-5, 2e-5, 3e-5])
    assert drawn[-1].tolist() == [1.0, 1.0]


def test_normal_deviates() -> None:
    np.testing.assert_allclose(probit(np.array([0.5, 0.975])), [0, 1.959964], atol=1e-6)
    with pytest.raises(ValueError, match="outside"):
        probit(np.array([0.0]))


def test_nothing_to_draw_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no model"):
        write_curves(tmp_path, {})
    with pytest.raises(ValueError, match="sface, impostor: empty"):
        write_curves(tmp_path, {"sface": ScoreSet([0.1], [])})
