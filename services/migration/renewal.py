"""Native templates in place of mapped ones, for subjects that are seen again."""

from __future__ import annotations

from services.gallery import Candidate, Enrolment, Gallery, NewTemplate
from services.settings import MigrationSettings


class Renewal:
    """Gives a subject that was recognised by a mapped template a native one in its place.

    Whoever is taken for somebody else would be enrolled as that person, so it is off unless the
    settings choose it, and asks for a better picture and a surer match than an identification.

    Args:
        settings: whether, from which quality, and at which rate.
    """

    def __init__(self, settings: MigrationSettings) -> None:
        self._settings = settings

    @property
    def fpir(self) -> float:
        """False-positive identification rate whose threshold a match must reach."""
        return self._settings.renew_fpir

    def is_due(self, first: Candidate, quality: float, threshold: float) -> bool:
        """Whether a subject should get a native template.

        Args:
            first: the candidate that an identification was sure of.
            quality: unified quality of the picture, 0 to 100.
            threshold: of new probes against the map's templates at `fpir`.
        """
        settings = self._settings
        return bool(
            settings.renew
            and first.map
            and quality >= settings.renew_min_quality
            and first.similarity >= threshold
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
