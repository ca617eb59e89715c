"""Search in Milvus: the nearest rows until there are enough different subjects."""

from __future__ import annotations

import math

from services.gallery.milvus.connection import Connection, Row, quoted
from services.gallery.values import Candidate, Space, Vector

_FIELDS = ("subject_id", "id", "map", "confidence", "quality")
_SPARE = 4  # rows asked for each candidate, since a subject has several templates
_MOST = 16_384  # Milvus finds no more


async def search(
    connection: Connection, tenant: str, space: Space, vectors: Vector, limit: int
) -> list[list[Candidate]]:
    """See `Gallery.search`; ``vectors`` as they are compared."""
    if len(vectors) == 0:
        return []
    where = f"tenant == {quoted(tenant)} and searchable == true"
    wanted = limit * _SPARE
    while True:
        rows = await connection.search(space.key, where, vectors, wanted, _FIELDS)
        answers = [_of_different_subjects(space, hits, limit) for hits in rows]
        all_seen = all(
            len(answer) == limit or len(hits) < wanted
            for answer, hits in zip(answers, rows, strict=True)
        )
        if all_seen or wanted == _MOST:
            return answers
        wanted = min(_MOST, wanted * _SPARE)


def _of_different_subjects(space: Space, hits: list[Row], limit: int) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for hit in hits:
        row = hit["entity"]
        if row["subject_id"] not in found and len(found) < limit:
            value = hit["distance"]
            found[row["subject_id"]] = Candidate(
                row["subject_id"],
                row["id"],
                value if space.metric == "cosine" else -math.sqrt(max(value, 0.0)),
                row["map"],
                row["confidence"],
                row["quality"],
            )
    return list(found.values())
