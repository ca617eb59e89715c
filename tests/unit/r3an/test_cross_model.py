import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from models.r3an import linear
from models.r3an.confidence import ServedMap, learn_head
from models.r3an.mappers import AffineMap
from models.r3an.vectors import Pairs
from models.training.onnx_export import write_onnx
from models.zoo import MapCard
from models.zoo.card_base import Weights
from models.zoo.map_card import MapEnd
from services.evaluation import PairsError
from services.evaluation.cross_model import (
    Labelled,
    Seen,
    Subject,
    apply_map,
    map_report,
    native_report,
    read_index,
    subject_of,
    verdict,
)


def end(name: str, dimension: int) -> MapEnd:
    return MapEnd(
        name=name,
        version="1",
        weights_sha256="a" * 64,
        preprocessing_sha256="b" * 64,
        dimension=dimension,
    )


CARD = MapCard(
    name="toy-map",
    version="1",
    weights=Weights(file="map.onnx", sha256="a" * 64, size_bytes=1),
    source=end("aaa", 10),
    target=end("bbb", 8),
    method="ridge",
)


@pytest.fixture(scope="module")
def gallery(pairs: Pairs) -> Subject:
    rows = np.concatenate([pairs.calibration, pairs.test])
    people = [f"p{person}" for person in pairs.person[rows]]
    labelled = Labelled(
        [f"{k}.jpg" for k in range(len(rows))], people, [float(y) for y in pairs.yaw[rows]]
    )
    far = pairs.distractors
    return subject_of(
        labelled,
        Seen(pairs.source[rows, 0], pairs.target[rows, 0]),
        Seen(pairs.source[far, 0], pairs.target[far, 0]),
        np.ones(len(rows), dtype=np.bool_),
    )


@pytest.fixture(scope="module")
def maps(pairs: Pairs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A map that was fitted, and one that turns vectors at random."""
    folder = tmp_path_factory.mktemp("maps")
    source, target, _ = pairs.learned()
    rng = np.random.default_rng(0)
    astray = linear.Affine(rng.normal(size=(10, 8)), np.zeros(8))
    made = {}
    for name, affine in (("ridge", linear.ridge(source, target)), ("astray", astray)):
        served = ServedMap(AffineMap(affine), pairs.dimensions)
        learn_head(served, source, target, source, target)
        samples = {"vector": torch.from_numpy(source[:3].copy())}
        made[name] = folder / f"{name}.onnx"
        write_onnx(served, made[name], samples, ["mapped", "confidence"])
    return made


def test_the_report_of_a_toy_gallery_names_each_map_and_tells_them_apart(
    gallery: Subject, maps: dict[str, Path]
) -> None:
    found = {}
    for name, path in maps.items():
        near = apply_map(path, CARD, gallery.faces.source)
        far = apply_map(path, CARD, gallery.distractors.source)
        found[name] = map_report(gallery, name, near, far, released=name == "ridge")
    native = native_report(gallery)
    json.dumps({"maps": list(found.values()), "native": native}, allow_nan=False)
    good, bad = found["ridge"], found["astray"]
    assert (good["name"], good["released"], bad["released"]) == ("ridge", True, False)
    assert good["rank1"] > bad["rank1"] + 0.3
    assert good["cosine"] > 0.9 > bad["cosine"]
    assert set(good["tar_at_fmr"]) == {"0.01", "0.001", "0.0001"}
    assert good["tar_at_fmr"]["0.01"] > bad["tar_at_fmr"]["0.01"]
    assert set(good["conditions"]) == {"map|T", "T|map", "map|map"}
    bins = {point["where"] for point in good["conditions"]["map|T"]["rank"]}
    assert {"all", "yaw 0-15", "yaw 45-90"} >= bins - {"yaw 15-30", "yaw 30-45"}
    assert len(bins) > 2
    rank = {name: one["rank"][0]["rank1"]["estimate"] for name, one in native.items()}
    assert rank["raw S|T"] < 0.5 < rank["T|T"]
    # The probe's own people judge; the thresholds are of the other half.
    people = {point["people"] for point in native["T|T"]["rank"] if point["where"] == "all"}
    assert people == {20}


def test_a_good_map_lets_a_gallery_migrate_and_a_bad_one_does_not(
    gallery: Subject, maps: dict[str, Path]
) -> None:
    answers = {
        name: asdict(verdict(gallery, apply_map(path, CARD, gallery.faces.source), 1e-2))
        for name, path in maps.items()
    }
    assert answers["ridge"]["answer"].startswith("migrate")
    assert answers["astray"]["answer"] == "re-enrol"
    assert answers["astray"]["fnmr_migrated"] > answers["ridge"]["fnmr_migrated"] + 0.3


def test_people_without_usable_pictures_and_too_few_people_are_said(
    gallery: Subject, tmp_path: Path
) -> None:
    faces = gallery.faces
    labelled = Labelled(["a", "b", "c"], ["x", "y", "z"], [0.0] * 3)
    some = Seen(faces.source[:3], faces.target[:3])
    with pytest.raises(PairsError, match="two usable"):
        subject_of(labelled, some, some, np.ones(3, dtype=np.bool_))
    file = tmp_path / "index.tsv"
    file.write_text("path\tperson\na\tx\nb\ty\n")
    with pytest.raises(PairsError, match="fewer than four"):
        read_index(file)
    file.write_text("file\nx\n")
    with pytest.raises(PairsError, match="must name path and person"):
        read_index(file)
    rows = "".join(f"{k}.jpg\tp{k}\t{10 * k}\n" for k in range(5))
    file.write_text("path\tperson\tyaw\n" + rows + "nobody.jpg\t\t\n")
    read = read_index(file)
    assert (len(read.paths), read.yaw[3]) == (5, 30.0)
