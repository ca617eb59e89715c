"""Every option of a DDAT training run, in one validated model, with a CPU and a GPU profile."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.ddat.degradations import LEAST_SIDE, SourceDomain, TargetDomain, Up
from models.ddat.losses import Gan, Reading
from models.ddat.network import GROUPS, Norm
from models.training.augment import Augmentation
from models.training.people import PeopleOptions
from models.training.profiles import options_of

Profile = Literal["cpu", "gpu"]
Adversary = Literal["reversal", "swapped"]

LOOK = Augmentation(
    flip=0.5, turn=0.0, jitter=0.8, light=0.2, low_resolution=0.0, blur=0.0, grey=0.05,
    near_infrared=0.0, occlusion=0.0, jpeg=0.0,
)  # fmt: skip
"""The good face stays good: what takes pixels away is the domains' work."""

LABELS_OF_READING = {"bce": (1.0, 1.0), "lsq": (1.0, 0.0)}
"""Alpha and beta of each reading of the adaptor's loss (spec, section 4)."""


class TrainOptions(PeopleOptions):
    """What a run does; saved beside its checkpoints. Defaults are the CPU profile."""

    single_faces: bool = Field(
        True, description="each face without a label becomes a person of its own"
    )

    width: int = Field(
        32, ge=GROUPS, multiple_of=GROUPS, description="ngf, generator's first channels"
    )
    discriminator_width: int = Field(32, ge=1, description="ndf, discriminator's first channels")
    norm: Norm = Field("batch", description="of the generator; batch sees both domains in one")
    skip_first: bool = Field(True, description="e1 is handed to d1")
    upsampling: Up = Field("bicubic", description="of the generator's input; nearest: the paper's")
    residual: bool = Field(True, description="draw what is added to the input; ours")
    verifier_stages: int = Field(1, ge=0, description="last stages of V that are learned")
    scale: float = Field(24.0, gt=0, description="of V's classifier, on the cosines")

    target_share: float = Field(0.5, gt=0, lt=1, description="share of people in the target domain")
    sharp_from: float = Field(
        30.0, ge=0, description="least eye distance, px, in the picture of a good source face"
    )
    size_from: int = Field(LEAST_SIDE, ge=6, le=112, description="smallest side of content, px")
    size_to: int = Field(48, ge=6, le=112, description="largest side of content, px")
    blur_from: float = Field(0.25, ge=0, description="source: least sigma of the blur, cells")
    blur_to: float = Field(0.5, ge=0, description="source: largest")
    misplaced: float = Field(
        0.0,
        ge=0,
        le=2,
        description="source: spread of what loses pixels against the good face, cells",
    )
    source_stored: float = Field(
        0.5, ge=0, le=1, description="source: share with noise and JPEG after that; ours"
    )
    source_read: float = Field(2.5, ge=0, description="source: most noise in those, levels")
    source_quality_from: int = Field(
        65, ge=1, le=100, description="source: worst JPEG quality in those"
    )
    source_quality_to: int = Field(95, ge=1, le=100, description="source: best")
    target_gamma: float = Field(
        TargetDomain.gamma, ge=1, description="target: strongest exponent, and its inverse"
    )
    target_motion: float = Field(
        TargetDomain.motion, ge=0, description="target: longest motion, cells"
    )
    target_shot: float = Field(
        TargetDomain.shot, ge=0, description="target: photon noise, variance per level"
    )
    target_read: float = Field(TargetDomain.read, ge=0, description="target: dark noise, levels")
    target_quality_from: int = Field(
        TargetDomain.quality_from, ge=1, le=100, description="target: worst JPEG quality"
    )
    target_quality_to: int = Field(
        TargetDomain.quality_to, ge=1, le=100, description="target: best JPEG quality"
    )
    augmentation: Augmentation = LOOK

    gan: Gan = Field("bce", description="of the discriminator: cross-entropy or least squares")
    smooth: float = Field(0.1, ge=0, lt=1, description="one-sided: what real faces lack to 1")
    r1_weight: float = Field(0.0, ge=0, description="gradient penalty on good source faces")
    adversarial_weight: float = Field(0.1, ge=0, description="of D; 0: no discriminator")
    target_weight: float = Field(1.0, ge=0, description="factor on the target's part of that")
    l1_weight: float = Field(2.0, ge=0, description="lambda_1")
    adaptor: Reading = Field("bce", description="reading of the adaptor's loss")
    adaptor_alpha: float | None = Field(None, description="of it; the reading's own by default")
    adaptor_beta: float | None = Field(None, description="of it; the reading's own by default")
    adaptor_weight: float = Field(0.1, ge=0, description="lambda_A at the end of its ramp")
    adversary: Adversary = Field(
        "reversal", description="the encoder's way against A: turned gradient, or swapped labels"
    )
    consistency_weight: float = Field(1.0, ge=0, description="lambda_con, in V's features")
    identity_weight: float = Field(5.0, ge=0, description="distillation of the frozen teacher")
    feature_weight: float = Field(10.0, ge=0, description="its stages' maps; perceptual, ours")
    classification_weight: float = Field(0.2, ge=0, description="of translated source faces")
    centre_weight: float = Field(0.1, ge=0, description="lambda_c, on unit features")
    centre_step: float = Field(0.5, ge=0, le=1, description="of the centres, per step")
    vat_weight: float = Field(1.0, ge=0, description="lambda_vat; 0: none")
    vat_start: float = Field(0.1, ge=0, description="lambda_vat at the beginning")
    vat_from: float = Field(0.2, ge=0, le=1, description="share of the run after which it is full")
    vat_every: int = Field(4, ge=1, description="steps from one of VAT to the next")
    joint: bool = Field(True, description="G and V in one backward pass; else V after G")

    pretrain: float = Field(
        0.7, ge=0, le=1, description="first share of the run: L1 and consistency alone"
    )
    epochs: float = Field(2.5, gt=0, description="passes over the source faces")
    batch: int = Field(8, ge=2, description="triples per step")
    lr: float = Field(6e-4, gt=0, description="Adam's, of G and A")
    lr_discriminator: float = Field(1e-4, gt=0, description="Adam's, of D")
    lr_verifier: float = Field(1e-3, ge=0, description="SGD's, of V; 0: V stays as it is")
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's, of G")
    beta1_game: float = Field(0.5, ge=0, lt=1, description="Adam's, of A and D")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's")
    decay: float = Field(0.5, ge=0, le=1, description="last share of the run with falling rates")
    clip: float = Field(10.0, gt=0, description="largest gradient norm of each network")
    ema: float = Field(0.998, ge=0, lt=1, description="of generator weights that are exported")

    amp: bool = Field(True, description="bf16 autocast where the device has it; VAT is always fp32")
    workers: int = Field(2, ge=1, description="threads that prepare batches")
    limit: int = Field(0, ge=0, description="use only so many source faces; 0 is all")
    seed: int = Field(1, ge=0, description="of everything")
    save_minutes: float = Field(4.0, gt=0, description="between checkpoints")
    validate_steps: int = Field(1000, ge=1, description="between validations and sample sheets")
    validate_faces: int = Field(300, ge=0, description="held-out faces in those; 0 is all")

    @model_validator(mode="after")
    def _ranges_ascend(self) -> TrainOptions:
        for low, high in (
            ("size_from", "size_to"),
            ("blur_from", "blur_to"),
            ("source_quality_from", "source_quality_to"),
            ("target_quality_from", "target_quality_to"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} must not be above {high}")
        return self

    @model_validator(mode="after")
    def _something_to_learn(self) -> TrainOptions:
        o = self
        if not (o.l1_weight or o.identity_weight or o.feature_weight or o.consistency_weight):
            raise ValueError(
                "l1_weight, identity_weight, feature_weight or consistency_weight must be above 0"
            )
        return self

    def labels_of_domains(self) -> tuple[float, float]:
        """Alpha and beta of the adaptor's loss."""
        alpha, beta = LABELS_OF_READING[self.adaptor]
        return (
            alpha if self.adaptor_alpha is None else self.adaptor_alpha,
            beta if self.adaptor_beta is None else self.adaptor_beta,
        )

    def source_domain(self) -> SourceDomain:
        """How source faces lose pixels."""
        return SourceDomain(
            self.blur_from,
            self.blur_to,
            self.source_stored,
            self.source_read,
            self.source_quality_from,
            self.source_quality_to,
        )

    def target_domain(self) -> TargetDomain:
        """How target faces lose pixels."""
        return TargetDomain(
            self.target_gamma,
            self.target_motion,
            self.target_shot,
            self.target_read,
            self.target_quality_from,
            self.target_quality_to,
        )


GPU_CHANGES: dict[str, Any] = {
    "width": 64,
    "discriminator_width": 64,
    "verifier_stages": 3,
    "vat_every": 1,
    "batch": 64,
    "epochs": 80.0,
    "pretrain": 0.2,
    "ema": 0.999,
    "workers": 12,
    "validate_steps": 2000,
    "validate_faces": 0,
}
"""The spec's widths and epochs; the batch is four times its 16 triples, to keep the GPU busy."""


def profile_options(profile: Profile, changes: dict[str, Any] | None = None) -> TrainOptions:
    """The options of a profile with `changes` laid over them."""
    return options_of(TrainOptions, GPU_CHANGES if profile == "gpu" else {}, LOOK, changes)
