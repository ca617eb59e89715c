"""DR-GAN: one vector from one or many images of a person, and a face turned to a wanted pose.

Training lives in modules of its own and needs the `train` extra (torch, onnx); importing this
package does not.
"""
