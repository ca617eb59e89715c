"""Imports vectors that were made elsewhere by a model that is registered here; safe to repeat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from services.errors import Errors, MienError
from services.gallery.checks import checked_id, checked_template
from services.gallery.contract import Gallery
from services.gallery.values import Space, Subject, Template
from services.gallery.vector_files import FileRow

_BATCH = 500
_MOST_FAULTS = 1000  # told one by one; all are counted


@dataclass
class Imported:
    """What became of a file's rows.

    Attributes:
        templates: stored, those included that were there already.
        subjects: made for them.
        refused: rows that were left out.
        faults: number of the row and why it was left out, of the first thousand.
    """

    templates: int = 0
    subjects: int = 0
    refused: int = 0
    faults: list[tuple[int, str]] = field(default_factory=list)


async def import_rows(
    gallery: Gallery,
    tenant: str,
    space: Space,
    rows: Iterable[FileRow],
    advance: Callable[[int], None] = lambda _: None,
) -> Imported:
    """Stores vectors as native templates of a space, whether it is live or not.

    A row without a template id gets one that follows from its subject and vector, so that the same
    file imported again stores nothing twice. Rows that cannot be stored are told and left out.

    Args:
        gallery: to store in.
        tenant: whose.
        space: that made the vectors.
        rows: of a file.
        advance: told how many rows are done since the last time.

    Raises:
        MienError: the gallery fails, or the tenant's name is not valid.
    """
    await gallery.create_collection(space)
    imported = Imported()
    batch: dict[str, tuple[FileRow, Template]] = {}

    async def store() -> None:
        await _store(gallery, tenant, space, [*batch.values()], imported)
        batch.clear()

    seen = 0
    for row in rows:
        seen += 1
        try:
            template = _template(tenant, space, row)
        except MienError as error:
            _refuse(imported, row, error.detail)
        else:
            if template.id in batch or len(batch) == _BATCH:
                await store()
            batch[template.id] = (row, template)
        if seen == _BATCH:
            advance(seen)
            seen = 0
    await store()
    advance(seen)
    return imported


async def _store(
    gallery: Gallery,
    tenant: str,
    space: Space,
    batch: list[tuple[FileRow, Template]],
    imported: Imported,
) -> None:
    names = {template.subject_id for _, template in batch}
    new = [name for name in sorted(names) if await gallery.subject(tenant, name) is None]
    if new:
        await gallery.put_subjects(tenant, [Subject(name) for name in new])
        imported.subjects += len(new)
    try:
        await gallery.write(space, [template for _, template in batch])
        imported.templates += len(batch)
    except MienError as error:
        if error.error is not Errors.INVALID_REQUEST:
            raise
        # One id belongs to another subject: which one is found by storing them singly.
        for row, template in batch:
            try:
                await gallery.write(space, [template])
                imported.templates += 1
            except MienError as single:
                if single.error is not Errors.INVALID_REQUEST:
                    raise
                _refuse(imported, row, single.detail)


def _template(tenant: str, space: Space, row: FileRow) -> Template:
    if row.vector is None:
        raise MienError(Errors.TEMPLATE_INVALID, row.fault or "there is no vector")
    subject = checked_id(row.subject_id, "subject_id")
    template = Template(
        tenant=tenant,
        subject_id=subject,
        id=row.template_id and checked_id(row.template_id, "template_id"),
        space=space,
        vector=row.vector,
    )
    checked_template(template)
    if template.id:
        return template
    mark = hashlib.sha256(subject.encode() + b"\x00" + row.vector.tobytes()).hexdigest()[:32]
    return Template(tenant, subject, f"import-{mark}", space, row.vector)


def _refuse(imported: Imported, row: FileRow, why: str) -> None:
    imported.refused += 1
    if len(imported.faults) < _MOST_FAULTS:
        imported.faults.append((row.number, why))
