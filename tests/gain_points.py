"""Points of an enhancer's measured curve, made up."""

from models.zoo.enhancer_card import GainPoint, Rate
from services.gain_gate import eyes_px


def point(side: int, low: float, domain: str = "area", fmr: float = 1e-3) -> GainPoint:
    """A gain of `low` + 0.1 at a size of so many pixels, sure to be above `low`."""
    rate = Rate(value=0.5, low=0.4, high=0.6)
    gain = Rate(value=low + 0.1, low=low, high=low + 0.2)
    return GainPoint(
        domain=domain, side=side, eyes_px=eyes_px(side), fmr=fmr, plain=rate, enhanced=rate,
        gain=gain,
    )  # fmt: skip
