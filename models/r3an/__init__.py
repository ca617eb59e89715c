"""R3AN and simpler maps: a vector of one model to the vector another model would give.

`models.r3an.protocol`, `verdict` and `linear` need numpy alone. Networks, training and export need
the `train` extra (torch, onnx); importing this package does not.
"""
