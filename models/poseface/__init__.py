"""PoseFace: identity features that stay the same from frontal to profile.

Training lives in modules of its own and needs the `train` extra (torch, onnx); importing this
package does not.
"""
