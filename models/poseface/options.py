"""Every option of a PoseFace training run, in one validated model, with a CPU and a GPU profile."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.poseface.losses import MAX_MARGIN, Fallback, Orthogonality, Ramp
from models.poseface.network import Backbone
from models.training.augment import Augmentation
from models.training.people import PeopleOptions

Profile = Literal["cpu", "gpu"]
KeepTo = Literal["clean", "seen"]


class TrainOptions(PeopleOptions):
    """What a run does; saved beside its checkpoints. Defaults are the CPU profile."""

    backbone: Backbone = Field("sface", description="layers of the network")
    identity_dim: int | None = Field(None, ge=8, description="d_id; the backbone's own by default")
    dropout: float = Field(0.0, ge=0, lt=1, description="before the dense layer (IResNet)")
    freeze_stages: int = Field(6, ge=0, description="first pieces of the backbone left as they are")
    norm: Literal["frozen", "train"] = Field("frozen", description="batch-norm statistics")

    landmark_points: Literal[5] = Field(5, description="landmarks per face in the index")
    pose_dim: int = Field(8, ge=2, description="d_pose, and the width of the landmark code")
    autoencoder_epochs: int = Field(50, ge=1, description="passes of its pretraining")
    autoencoder_batch: int = Field(1024, ge=2, description="faces per step of its pretraining")
    autoencoder_lr: float = Field(1e-3, gt=0, description="Adam's, in its pretraining")

    scale: float = Field(24.0, gt=0, description="s, on the cosines")
    base_margin: float = Field(0.40, ge=0, description="m_b, rad")
    margin_gain: float = Field(0.20, ge=0, description="delta_m, rad; 0 is plain ArcFace")
    full_pose: float = Field(45.0, gt=0, description="yaw or pitch that counts as full, degrees")
    ramp: Ramp = Field("linear", description="how r grows with the angle")
    fallback: Fallback = Field("hard", description="margin beyond its turning point")
    easy_epochs: float = Field(0.0, ge=0, description="first epochs with the easy margin")

    identity_weight: float = Field(1.0, ge=0, description="factor on PAA")
    pose_weight: float = Field(0.2, ge=0, description="lambda_p, pose supervision")
    decode_weight: float = Field(0.0, ge=0, description="landmarks decoded from the pose feature")
    orth_weight: float = Field(1.0, ge=0, description="lambda_o, orthogonality")
    orth: Orthogonality = Field("subspace", description="of the heads, or of a batch's features")
    ramp_share: float = Field(0.1, ge=0, le=1, description="share of the run over which they grow")
    keep_weight: float = Field(5.0, ge=0, description="factor on feature keeping")
    keep_profile: float = Field(
        0.5, ge=0, le=1, description="its weight on full profiles; frontal 1"
    )
    keep_to: KeepTo = Field(
        "clean", description="the teacher's vector of the stored face, or of what is seen here"
    )
    blends: float = Field(
        0.0, ge=0, lt=1, description="share of two people's blends; needs keep_to=seen"
    )
    start_own: float = Field(
        0.3, ge=0, le=1, description="share of a start's own dense layer in the fitted one"
    )
    centre_frontal: float = Field(
        0.0, ge=0, le=1, description="share of class centre, frontal target"
    )
    centre_profile: float = Field(
        0.6, ge=0, le=1, description="share of class centre, profile target"
    )

    repeat_profiles: int = Field(3, ge=1, description="times a face beyond 30 degrees is seen")
    nameless_share: float = Field(0.3, ge=0, le=1, description="faces without label, per epoch")
    limit: int = Field(0, ge=0, description="use only so many faces; 0 is all")
    augmentation: Augmentation = Augmentation()

    epochs: float = Field(4.0, gt=0, description="passes over the training faces")
    batch: int = Field(64, ge=2, description="faces per step")
    optimiser: Literal["adamw", "sgd"] = Field("adamw", description="which")
    schedule: Literal["cosine", "steps"] = Field("cosine", description="or a tenth at 50/75/90 %")
    warmup: float = Field(0.03, ge=0, le=1, description="share of the run with a rising rate")
    lr_backbone: float = Field(1e-5, ge=0, description="convolutions")
    lr_dense: float = Field(4e-5, ge=0, description="dense layer")
    lr_heads: float = Field(1e-4, ge=0, description="identity and pose head")
    lr_classifier: float = Field(1e-3, ge=0, description="class centres")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's")
    weight_decay: float = Field(1e-4, ge=0, description="on matrices, not on norms")
    clip: float = Field(20.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.999, ge=0, lt=1, description="decay of the averaged weights; 0 is off")

    amp: bool = Field(True, description="bf16 autocast where the device has it")
    compile: bool = Field(True, description="torch.compile")
    workers: int = Field(2, ge=1, description="threads that prepare batches")
    seed: int = Field(1, ge=0, description="of everything")
    save_minutes: float = Field(4.0, gt=0, description="between checkpoints")
    validate_steps: int = Field(500, ge=1, description="between validations")

    @model_validator(mode="after")
    def _agree(self) -> TrainOptions:
        if self.base_margin + self.margin_gain > MAX_MARGIN:
            raise ValueError(f"base_margin + margin_gain must not exceed {MAX_MARGIN} rad")
        if self.blends and self.keep_to != "seen":
            raise ValueError("nothing is known of a blend but what the teacher sees: keep_to=seen")
        return self


GPU_CHANGES: dict[str, Any] = {
    "backbone": "iresnet18",
    "freeze_stages": 0,
    "norm": "train",
    "scale": 64.0,
    "base_margin": 0.45,
    "margin_gain": 0.10,
    "full_pose": 60.0,
    "easy_epochs": 1.0,
    "pose_weight": 1.0,
    "keep_weight": 0.0,
    "repeat_profiles": 1,
    "epochs": 20.0,
    "batch": 512,
    "optimiser": "sgd",
    "schedule": "steps",
    "lr_backbone": 0.1,
    "lr_dense": 0.1,
    "lr_heads": 0.1,
    "lr_classifier": 0.1,
    "weight_decay": 5e-4,
    "workers": 12,
}
"""The paper's road: random weights, large margins, SGD in three steps."""


def profile_options(profile: Profile, changes: dict[str, Any] | None = None) -> TrainOptions:
    """The options of a profile with `changes` laid over them."""
    base = GPU_CHANGES if profile == "gpu" else {}
    return TrainOptions.model_validate({**base, **(changes or {})})
