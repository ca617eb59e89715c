import numpy as np

from models.drgan.poses import YawBins, merged_bins, symmetric_bins


def test_the_papers_bins_are_13_of_15_degrees() -> None:
    bins = symmetric_bins(90)
    assert len(bins) == 13
    assert bins.frontal == 6
    yaw = np.array([-120.0, -90, -8, -7.4, 0, 7.4, 7.6, 90, 180, np.nan])
    assert bins.of(yaw).tolist() == [0, 0, 5, 6, 6, 6, 7, 12, 12, 6]


def test_thin_bins_are_merged_from_outside_and_every_face_still_has_one() -> None:
    rng = np.random.default_rng(0)
    yaw = np.concatenate([rng.uniform(-37, 37, 990), rng.uniform(50, 80, 10)])
    bins = merged_bins(yaw, least_share=0.01)
    assert bins == symmetric_bins(45)
    assert sum(bins.counts(yaw).values()) == 1000
    assert bins.counts(yaw)["+45"] >= 10
    assert merged_bins(yaw, least_share=0.5) == symmetric_bins(15)


def test_a_mirrored_face_falls_into_the_mirrored_bin() -> None:
    bins = YawBins((-30.0, -15.0, 0.0, 15.0, 30.0))
    yaw = np.linspace(-60, 60, 97) + 0.01
    assert (bins.of(-yaw) == len(bins) - 1 - bins.of(yaw)).all()
