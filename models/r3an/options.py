"""Every option of an R3AN training run, in one validated model, with a CPU and a GPU profile."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.r3an.losses import Distance
from models.r3an.vectors import SplitOptions
from models.training.augment import NONE, Augmentation
from models.training.profiles import options_of

Profile = Literal["cpu", "gpu"]
Fc = Literal["none", "flat", "deep"]
Architecture = Literal[
    "FC", "FC-deep", "Arch1", "Arch2", "Arch3", "Arch4", "Arch5", "Arch6", "Arch7", "R3AN"
]


def _row(*, adv: bool, rec: bool, rep: bool, reg: bool) -> dict[str, Any]:
    return {"rec_adv": adv, "rec_l2": rec, "rep_l2": rep, "reg_l2": reg, "fc": "none"}


ARCHITECTURES: dict[Architecture, dict[str, Any]] = {
    "FC": {"fc": "flat"},
    "FC-deep": {"fc": "deep"},
    "Arch1": _row(adv=False, rec=True, rep=True, reg=False),
    "Arch2": _row(adv=True, rec=False, rep=True, reg=False),
    "Arch3": _row(adv=False, rec=False, rep=False, reg=True),
    "Arch4": _row(adv=False, rec=True, rep=False, reg=True),
    "Arch5": _row(adv=False, rec=True, rep=True, reg=True),
    "Arch6": _row(adv=True, rec=False, rep=False, reg=True),
    "Arch7": _row(adv=False, rec=False, rep=True, reg=True),
    "R3AN": _row(adv=True, rec=True, rep=True, reg=True),
}
"""The rows of the method's Table 3 as options; FC in both forms of the spec."""


class TrainOptions(SplitOptions):
    """What a run does; saved beside its checkpoints. Defaults are the CPU profile."""

    rec_adv: bool = Field(True, description="reconstruct against a discriminator")
    rec_l2: bool = Field(True, description="reconstruct the picture")
    rep_l2: bool = Field(True, description="the extractor learns from real faces")
    reg_l2: bool = Field(True, description="generator and extractor learn the whole way")
    fc: Fc = Field("none", description="the naive baseline: no face in between, one layer or two")
    linear_path: bool = Field(False, description="a linear path beside R3AN's, from ridge; ours")
    big: bool = Field(False, description="3, 4, 3, 3, 1 bottlenecks in the extractor, not 1 each")

    distance: Distance = Field("l2", description="of all L2 losses: the printed norm, or squared")
    rec_weight: float = Field(1.0, gt=0, description="lambda_Rec")
    adv_weight: float = Field(0.02, gt=0, description="lambda_Adv")
    adv_ramp: float = Field(0.08, ge=0, le=1, description="share of the run until it is full")
    rep_weight: float = Field(1.0, gt=0, description="lambda_Rep")
    reg_weight: float = Field(1.0, gt=0, description="lambda_Reg")
    pretrain: float = Field(
        0.0, ge=0, lt=1, description="first share of the run: the extractor on real faces alone"
    )

    epochs: float = Field(10.0, gt=0, description="passes over the training faces")
    batch: int = Field(96, ge=8, description="faces per step")
    lr: float = Field(2e-4, gt=0, description="Adam's, of D and G")
    lr_extractor: float = Field(1e-3, gt=0, description="Adam's, of E and of the whole way")
    beta1: float = Field(0.5, ge=0, lt=1, description="Adam's, of D and G; 0.9 for the others")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's")
    clip: float = Field(5.0, gt=0, description="largest gradient norm")
    ema: float = Field(0.998, ge=0, lt=1, description="of the weights that are used")
    flip: float = Field(0.5, ge=0, le=1, description="share of mirrored faces")

    augmentation: Augmentation = NONE
    amp: bool = Field(False, description="bf16 autocast where the device has it")
    limit: int = Field(0, ge=0, description="use only so many training faces; 0 is all")
    seed: int = Field(1, ge=0, description="of everything")
    save_minutes: float = Field(4.0, gt=0, description="between checkpoints")
    validate_steps: int = Field(1000, ge=1, description="between validations")

    @model_validator(mode="after")
    def _something_is_learned(self) -> TrainOptions:
        if self.fc == "none" and not (self.rep_l2 or self.reg_l2):
            raise ValueError("rep_l2 or reg_l2 must be on: nothing else teaches the extractor")
        if self.fc == "none" and not (self.rec_adv or self.rec_l2 or self.reg_l2):
            raise ValueError("nothing teaches the generator")
        if self.linear_path and (self.fc != "none" or not self.reg_l2):
            raise ValueError("linear_path needs reg_l2, and no fc")
        return self


GPU_CHANGES: dict[str, Any] = {
    "big": True,
    "epochs": 100.0,
    "batch": 1024,
    "ema": 0.999,
    "amp": True,
    "validate_steps": 500,
}
"""The larger extractor, and the epochs that half an hour of a large GPU has room for."""


def profile_options(profile: Profile, changes: dict[str, Any] | None = None) -> TrainOptions:
    """The options of a profile with `changes` laid over them."""
    return options_of(TrainOptions, GPU_CHANGES if profile == "gpu" else {}, NONE, changes)
