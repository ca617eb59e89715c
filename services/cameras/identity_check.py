"""Whether a new shot shows the face that its track followed before, and whose it is if not.

Boxes alone cannot tell two people who cross. Every shot that is embedded is therefore compared with
its track's template before it becomes a part of it.
"""

from __future__ import annotations

from services.cameras.camera import Camera, strictest
from services.cameras.track import Shot, Track
from services.gateway.decision import similarity
from services.gateway.gallery_models import GalleryModel

_OTHER = 0.5
"""Share of the loosest fitted threshold below which a shot shows another person: with pictures of
one camera and few seconds, the same person is far above that threshold."""
_LEAD = 0.1  # of similarity by which another track must fit better
_LONGEST_CHECK = 8.0  # seconds between checks of a face that stays near another


def place(camera: Camera, track: Track, shot: Shot, model: GalleryModel) -> Track | None:
    """The track that a shot belongs to.

    Args:
        camera: that both are of.
        track: that the boxes say it is of.
        shot: embedded by ``model``.
        model: of the vectors.

    Returns:
        ``track``; another one, whose face it shows; or None for a shot that fits nobody safely and
        is left out.
    """
    if not track.told:
        track = camera.rejoin(track, shot.vector, model)
    template = track.template()
    if template is None or track.model is None or track.model.space != model.space:
        return track
    metric = model.info.metric
    own = similarity(shot.vector, template, metric)
    loosest = min((one.similarity for one in model.info.thresholds), default=0.0)
    if own >= loosest:
        _checked(track)
        return track
    others = [
        (similarity(shot.vector, other, metric), one)
        for one in camera.all_tracks()
        if one is not track
        and one.model is not None
        and one.model.space == model.space
        and (other := one.template()) is not None
    ]
    best = max(others, key=lambda one: one[0], default=None)
    if best is not None and best[0] >= max(strictest(model), own + _LEAD):
        camera.swap(track, best[1])
        return best[1]
    if own < (loosest * _OTHER if loosest > 0 else loosest / _OTHER):
        return camera.part(track)
    return None


def _checked(track: Track) -> None:
    if track.check_from is not None:
        track.check_from = None
        track.check_after = min(2 * track.check_after, _LONGEST_CHECK)
