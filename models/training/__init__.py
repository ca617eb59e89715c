"""What the trainings of all methods share: faces, augmentation, checkpoints, curves, the loop."""
