"""A camera's time goes on, whatever its clock says."""

import pytest

from services.cameras.clock import CameraClock


def test_time_goes_by_the_cameras_clock_even_when_frames_come_faster() -> None:
    clock = CameraClock()
    for number in range(11):
        clock.advance(1000.0 + number * 0.2, 5.0 + number * 0.01)
    assert clock.now == pytest.approx(2.0)


@pytest.mark.parametrize("jump", [-3600.0, -0.1, 0.0, 3600.0])
def test_a_jump_is_replaced_by_what_was_waited_for(jump: float) -> None:
    clock = CameraClock()
    clock.advance(1000.0, 5.0)
    assert clock.advance(1000.0 + jump, 5.25) == pytest.approx(0.25)
    assert clock.advance(1000.0 + jump + 0.2, 5.5) == pytest.approx(0.2)


def test_a_real_gap_is_believed() -> None:
    clock = CameraClock()
    clock.advance(1000.0, 5.0)
    assert clock.advance(1030.0, 35.0) == pytest.approx(30.0)


def test_little_time_passes_while_a_camera_reconnects() -> None:
    clock = CameraClock()
    clock.advance(1000.0, 5.0)
    clock.reconnected()
    assert clock.advance(1008.0, 13.0) < 0.5
    assert clock.advance(1008.2, 13.2) == pytest.approx(0.2)
