"""Every option of a training run, in one validated model, with a CPU and a GPU profile.

`PUBLISHED` lays the paper's recipe over either.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.nir_cyclegan.pictures import Equalisation
from models.nir_cyclegan.pool import POOL
from models.training.augment import Augmentation
from models.training.people import PeopleOptions
from models.training.profiles import options_of

Profile = Literal["cpu", "gpu"]

LOOK = Augmentation(
    flip=0.5, turn=0.0, jitter=0.8, light=0.2, low_resolution=0.0, blur=0.0, grey=0.0,
    near_infrared=0.0, occlusion=0.0, jpeg=0.0,
)  # fmt: skip
"""Of faces of both domains, before near infrared is simulated."""

UNALIGNED = {
    "jitter": 1.0, "jitter_degrees": 12.0, "jitter_scale": 0.1, "jitter_shift": 6.0,
}  # fmt: skip
"""What replaces the small errors of a detector where faces are to lie as they were found."""


class TrainOptions(PeopleOptions):
    """What a run does; saved beside its checkpoints. Defaults are the CPU profile."""

    single_faces: bool = Field(
        True, description="each face without a label becomes a person of its own"
    )

    side: int = Field(112, ge=32, multiple_of=4, description="of the pictures, px")
    width: int = Field(24, ge=1, description="ngf, first channels of G and F")
    blocks: int = Field(6, ge=1, description="residual blocks of each")
    discriminator_width: int = Field(32, ge=1, description="ndf, first channels of each")
    residual: bool = Field(True, description="draw what is added to the input; ours")
    grey: bool = Field(True, description="G draws one channel, three times; ours")

    aligned: bool = Field(True, description="eyes on the template; else turned and moved anew")
    he: Equalisation = Field("off", description="where histograms are equalised")
    holdout_nir: float = Field(
        0.1, ge=0, lt=1, description="share of people of real near-infrared data held out"
    )
    nir_share: float = Field(
        0.4, gt=0, lt=1, description="share of people who are seen in near infrared alone"
    )
    sharp_from: float = Field(
        30.0, ge=0, description="least eye distance, px, in the picture of a visible face"
    )
    augmentation: Augmentation = LOOK

    adversarial_weight: float = Field(0.2, ge=0, description="least squares; 0: no discriminators")
    cycle_weight: float = Field(5.0, ge=0, description="lambda, L1 both ways")
    perceptual_weight: float = Field(0.5, ge=0, description="lambda_perc, real-reconstructed")
    look_every: int = Field(
        2, ge=1, description="steps from one look at reconstructed faces to the next; ours"
    )
    mapping_weight: float = Field(
        0.0, ge=0, description="identity mapping, G(y) to y and F(x) to x; usually lambda/2"
    )
    pairs: int = Field(
        6, ge=0, description="visible faces per step that F draws back from simulated ones; ours"
    )
    identity_weight: float = Field(
        10.0, ge=0, description="of those: the frozen teacher's features; ours"
    )
    feature_weight: float = Field(
        10.0, ge=0, description="of those: the maps of all its stages; ours"
    )
    brightness_weight: float = Field(5.0, ge=0, description="of those: L1 of luminance; ours")
    cycle_identity_weight: float = Field(
        1.0, ge=0, description="the teacher's features of F(G(x)) and of G(F(y)); ours"
    )
    grey_share: float = Field(
        0.15, ge=0, le=1, description="share of those that are plain grey, not near infrared; ours"
    )
    mild_share: float = Field(
        0.15, ge=0, le=1, description="share that is mildly near infrared; ours"
    )
    pool: int = Field(POOL, ge=0, description="older pictures kept for each discriminator")
    pretrain: float = Field(
        0.3, ge=0, le=1, description="first share of the run without discriminators; ours"
    )

    epochs: float = Field(2.0, gt=0, description="passes over the larger domain")
    batch: int = Field(2, ge=1, description="unpaired faces of each domain per step")
    lr: float = Field(3e-4, gt=0, description="Adam's, of G and F")
    lr_discriminator: float = Field(2e-4, gt=0, description="Adam's, of both discriminators")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's")
    warmup: int = Field(200, ge=0, description="first steps, rates rising; ours")
    decay: float = Field(0.5, ge=0, le=1, description="last share, rates falling to 0")
    clip: float = Field(10.0, gt=0, description="largest gradient norm of G and F, and of both D")
    ema: float = Field(0.998, ge=0, lt=1, description="of the weights that are exported")

    amp: bool = Field(True, description="bf16 autocast where the device has it")
    workers: int = Field(2, ge=1, description="threads that prepare batches")
    limit: int = Field(0, ge=0, description="use only so many visible faces; 0 is all")
    seed: int = Field(1, ge=0, description="of everything")
    save_minutes: float = Field(4.0, gt=0, description="between checkpoints")
    validate_steps: int = Field(1000, ge=1, description="between validations and sample sheets")
    validate_faces: int = Field(300, ge=0, description="held-out faces in those; 0 is all")

    @model_validator(mode="after")
    def _shares_are_shares(self) -> TrainOptions:
        if self.grey_share + self.mild_share > 1:
            raise ValueError("grey_share and mild_share must not be above 1 together")
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainOptions:
        paired = self.pairs and (
            self.identity_weight or self.feature_weight or self.brightness_weight
        )
        if not self.cycle_weight and not paired:
            raise ValueError("cycle_weight, or pairs with a weight, must be above 0")
        return self

    def look(self) -> Augmentation:
        """The augmentation, with faces moved far where they are not to be aligned."""
        return self.augmentation if self.aligned else self.augmentation.model_copy(update=UNALIGNED)

    @property
    def faces_per_step(self) -> int:
        """Faces of one domain that a step sees at most; what an epoch is counted in."""
        return max(self.batch, self.pairs)


PUBLISHED: dict[str, Any] = {
    "he": "vis_domain", "residual": False, "grey": False, "adversarial_weight": 1.0,
    "cycle_weight": 10.0, "perceptual_weight": 1.0, "look_every": 1, "pairs": 0,
    "cycle_identity_weight": 0.0, "pretrain": 0.0, "warmup": 0, "lr": 2e-4,
    "lr_discriminator": 2e-4, "clip": 1e6, "ema": 0.0,
}  # fmt: skip
"""The paper's losses and CycleGAN's training; sizes, batch and length are the profile's."""

GPU_CHANGES: dict[str, Any] = {
    "side": 128,
    "width": 64,
    "discriminator_width": 64,
    "batch": 16,
    "pairs": 16,
    "epochs": 60.0,
    "pretrain": 0.1,
    "ema": 0.999,
    "workers": 12,
    "validate_steps": 2000,
    "validate_faces": 0,
}
"""The spec's widths at 128 px with 6 blocks; 256 px wants `--side 256 --blocks 9`."""


def profile_options(profile: Profile, changes: dict[str, Any] | None = None) -> TrainOptions:
    """The options of a profile with `changes` laid over them."""
    return options_of(TrainOptions, GPU_CHANGES if profile == "gpu" else {}, LOOK, changes)
