"""Native templates in place of mapped ones, for subjects that are seen again."""

from __future__ import annotations

from collections.abc import Sequence

from services.gallery import Candidate, Enrolment, Gallery, NewTemplate
from services.settings import MigrationSettings


class Renewal:
    """Gives a subject that was recognised by a mapped template a native one in its place.

    Whoever is taken for somebody else would be enrolled as that person, so it is off unless the
    settings choose it, and asks for a better picture and a surer match than an identification.

    Args:
        settings: whether, from which quality, and at which false-match rate.
    """

    def __init__(self, settings: MigrationSettings) -> None:
        self._settings = settings

    @property
    def fmr(self) -> float:
        """False-match rate of one comparison whose threshold a match must reach."""
        return self._settings.renew_fmr

    def is_due(
        self, candidates: Sequence[Candidate], quality: float, threshold: float, margin: float
    ) -> bool:
        """Whether the first candidate's subject should get a native template.

        Args:
            candidates: of an identification that was sure, best first.
            quality: unified quality of the picture.
            threshold: of new probes against the map's templates at `fmr`.
            margin: by which the first must lead the second.
        """
        if not self._settings.renew or not candidates or not candidates[0].map:
            return False
        first = candidates[0]
        alone = len(candidates) < 2 or first.similarity - candidates[1].similarity >= margin
        return (
            alone and quality >= self._settings.renew_min_quality and first.similarity >= threshold
        )

    async def renew(
        self, gallery: Gallery, tenant: str, subject_id: str, template: NewTemplate
    ) -> None:
        """Enrols a native template and deletes the subject's mapped ones of that space.

        The old model's own templates stay, so that a rollback finds the subject.

        Raises:
            MienError: as `Gallery.enrol`.
        """
        enrolment = Enrolment(subject_id, [template], replace_mapped=True)
        await gallery.enrol(tenant, [enrolment])
