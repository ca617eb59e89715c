"""Every option of a DR-GAN training run, in one validated model, with a CPU and a GPU profile."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.drgan.network import Variant
from models.training.augment import Augmentation
from models.training.people import PeopleOptions
from models.training.profiles import options_of

Profile = Literal["cpu", "gpu"]
EncoderKind = Literal["paper", "pretrained"]

LOOK = Augmentation(
    flip=0.5, turn=0.0, jitter=0.8, light=0.4, low_resolution=0.2, blur=0.2, grey=0.05,
    near_infrared=0.0, occlusion=0.1, jpeg=0.15,
)  # fmt: skip
"""What the encoder sees is worse than what the discriminator calls real: so the weights learn."""


class TrainOptions(PeopleOptions):
    """What a run does; saved beside its checkpoints. Defaults are the CPU profile."""

    variant: Variant = Field("cvpr17", description="losses and codes: the paper's or the later")
    encoder: EncoderKind = Field(
        "pretrained", description="Table 1's layers, or those of the file given by --start"
    )
    freeze_trunk: bool = Field(True, description="leave a pretrained encoder's layers as they are")
    width: float = Field(0.5, gt=0, le=2, description="factor on the channels of Table 1's layers")
    noise: int = Field(50, ge=1, description="N^z, width of z")
    widest_yaw: float = Field(90.0, ge=15, le=90, multiple_of=15, description="outermost bin")
    least_bin: float = Field(
        0.005, ge=0, lt=1, description="share of faces below which an outermost bin is merged"
    )

    people: int = Field(12, ge=2, description="P, people per step")
    images: int = Field(4, ge=1, description="n, images per person; 1 is the single-image model")
    turned_repeat: int = Field(
        3, ge=1, description="times per epoch for a person with a face beyond 45 degrees"
    )
    augmentation: Augmentation = LOOK

    warm_epochs: float = Field(3.0, ge=0, description="distillation before the first GAN step")
    warm_batch: int = Field(64, ge=2, description="faces per step of that")
    warm_lr: float = Field(1e-3, gt=0, description="Adam's in that")

    adversarial_weight: float = Field(1.0, ge=0, description="identity and pose by D; 0: L2 alone")
    l2_weight: float = Field(
        10.0, ge=0, description="made face against the person's real one in that pose"
    )
    paired: float = Field(
        0.5, ge=0, le=1, description="wanted poses that are those of another image of the person"
    )
    keep_weight: float = Field(1.0, ge=0, description="encoder's distillation in the GAN phase")

    epochs: float = Field(7.5, gt=0, description="passes over the people")
    lr: float = Field(2e-4, gt=0, description="Adam's, of decoder and discriminator")
    lr_encoder: float = Field(2e-5, ge=0, description="of the encoder's feature")
    lr_weight: float = Field(2e-4, ge=0, description="of a pretrained encoder's fusion weight")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's")
    strong_at: float = Field(
        0.9, gt=0, le=1, description="running accuracy from which D steps once per 4 of G"
    )
    strong_every: int = Field(4, ge=1, description="the 4 of that")
    decay: float = Field(0.3, ge=0, le=1, description="last share of the run with falling rates")
    clip: float = Field(50.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, ge=0, lt=1, description="of generator weights that are exported")

    amp: bool = Field(True, description="bf16 autocast where the device has it")
    workers: int = Field(2, ge=1, description="threads that prepare batches")
    limit: int = Field(0, ge=0, description="use only so many people; 0 is all")
    seed: int = Field(1, ge=0, description="of everything")
    save_minutes: float = Field(4.0, gt=0, description="between checkpoints")
    validate_steps: int = Field(500, ge=1, description="between validations and sample sheets")

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainOptions:
        if not self.adversarial_weight and not self.l2_weight:
            raise ValueError("adversarial_weight or l2_weight must be above 0")
        return self


GPU_CHANGES: dict[str, Any] = {
    "encoder": "paper",
    "freeze_trunk": False,
    "width": 1.0,
    "people": 24,
    "images": 6,
    "warm_epochs": 10.0,
    "warm_batch": 256,
    "epochs": 100.0,
    "l2_weight": 0.0,
    "paired": 0.0,
    "lr_encoder": 2e-4,
    "ema": 0.999,
    "workers": 12,
    "validate_steps": 2000,
}
"""The paper's road: Table 1's encoder at full width, warm-started, adversarial losses alone."""


def profile_options(profile: Profile, changes: dict[str, Any] | None = None) -> TrainOptions:
    """The options of a profile with `changes` laid over them."""
    return options_of(TrainOptions, GPU_CHANGES if profile == "gpu" else {}, LOOK, changes)
