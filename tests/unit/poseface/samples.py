"""A run of PoseFace that takes seconds."""

from models.poseface.options import TrainOptions, profile_options

TINY = {
    "holdout_other": 0.0,
    "backbone": "mobilefacenet",
    "identity_dim": 16,
    "freeze_stages": 0,
    "norm": "train",
    "keep_weight": 0.0,
    "autoencoder_epochs": 1,
    "autoencoder_batch": 8,
    "batch": 4,
    "epochs": 1.0,
    "compile": False,
    "amp": False,
    "workers": 1,
    "validate_steps": 1000,
}


def options(**changes: object) -> TrainOptions:
    return profile_options("cpu", {**TINY, **changes})
