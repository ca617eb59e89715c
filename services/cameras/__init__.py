"""Cameras: faces followed through the frames of streams, and one decision for each track."""
