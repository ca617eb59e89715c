"""Visible faces to near-infrared ones and back, learned without pairs (CycleGAN).

Training lives in modules of its own and needs the `train` extra (torch, onnx); importing this
package does not. `models.nir_cyclegan.simulated` and `models.nir_cyclegan.pictures` need numpy and
OpenCV alone, so that serving and evaluation share them.

G draws near infrared from visible faces, F the other way. No real near-infrared set comes with the
project: what stands for it is simulated, and every figure says so.
"""
