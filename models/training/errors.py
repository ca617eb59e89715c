"""What can be wrong with a training run, as whoever started it is told."""


class TrainingError(Exception):
    """The run cannot go on; the last checkpoint is intact."""


class DivergedError(TrainingError):
    """Loss or gradient have not been finite for many steps: a result of its own."""


class StoppedError(TrainingError):
    """Somebody stopped the run before its end; what it has learned is half of a result."""


class DataError(TrainingError):
    """The data folder is incomplete or does not agree with its index."""
