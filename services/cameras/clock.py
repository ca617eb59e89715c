"""A camera's time, which runs on whatever its clock says."""

from __future__ import annotations

_BELIEVED = 2.0  # seconds; a longer step of the camera's clock must have been waited for
_BETWEEN_STREAMS = 0.4  # seconds that pass for the tracks while a camera reconnects
_LEAST = 1e-3


class CameraClock:
    """Seconds since a camera's first frame.

    The time that a frame was taken at tells how far people can have moved, even where frames are
    sent faster or in bursts. But clocks jump: a step back, or one that is far longer than what was
    waited for, is replaced by the time between arrivals.

    Attributes:
        now: seconds.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self._captured: float | None = None
        self._arrived = 0.0
        self._reconnected = False

    def reconnected(self) -> None:
        """The next frame comes on another stream: the gap before it counts for little."""
        self._reconnected = self._captured is not None

    def advance(self, captured: float, arrived: float) -> float:
        """Moves on to a frame.

        Args:
            captured: seconds since the epoch, by the camera's clock.
            arrived: `time.monotonic`.

        Returns:
            Seconds since the frame before; 0 for the first.
        """
        last, waited = self._captured, max(arrived - self._arrived, _LEAST)
        self._captured, self._arrived = captured, arrived
        if last is None:
            return 0.0
        told = captured - last
        elapsed = told if 0.0 < told <= max(_BELIEVED, 2 * waited) else waited
        if self._reconnected:
            elapsed = min(elapsed, _BETWEEN_STREAMS)
            self._reconnected = False
        self.now += elapsed
        return elapsed
