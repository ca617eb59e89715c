"""DDAT: a face of few pixels to one that can be verified, for source and target domain.

Training lives in modules of its own and needs the `train` extra (torch, onnx); importing this
package does not. `models.ddat.degradations` needs numpy and OpenCV alone, so that serving and
evaluation share it.
"""
