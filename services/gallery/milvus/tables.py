"""The collections that a gallery keeps in Milvus, and how its values become their rows."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient

from services.gallery.milvus.connection import Connection, Row
from services.gallery.values import Space, Subject, Template

SUBJECTS = "mien_subjects"
KEYS = "mien_keys"
JOBS = "mien_jobs"
SPACES = "mien_spaces"
LIVE = "mien_live"
"""The alias of the live collection."""

FIELDS = (
    "sequence",
    "tenant",
    "subject_id",
    "id",
    "map",
    "confidence",
    "quality",
    "pictures",
    "created",
    "searchable",
    "vector",
)
SUBJECT_FIELDS = ("pk", "id", "sealed", "consent", "created", "updated")

_LONG = 65_535
_TEXT = 256
# Every collection of Milvus has a vector; tables of plain rows have one that means nothing.
_NO_VECTOR = [0.0, 0.0]
_STAMP_BITS = 10


def _schema(client: MilvusClient, table: str) -> Any:
    schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
    texts: dict[str, tuple[str, ...]] = {
        SUBJECTS: ("tenant", "id"),
        KEYS: ("tenant", "subject_id", "fingerprint"),
        JOBS: (),
        SPACES: (),
    }
    schema.add_field("pk", DataType.VARCHAR, is_primary=True, max_length=_TEXT)
    for name in texts[table]:
        schema.add_field(name, DataType.VARCHAR, max_length=_TEXT)
    schema.add_field("sealed", DataType.VARCHAR, max_length=_LONG)
    if table == SUBJECTS:
        schema.add_field("consent", DataType.BOOL)
        schema.add_field("created", DataType.DOUBLE)
    schema.add_field("updated", DataType.DOUBLE)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=len(_NO_VECTOR))
    return schema


async def make_tables(connection: Connection) -> None:
    """Makes the tables of plain rows that are not there."""

    def work(client: MilvusClient) -> None:
        there = set(client.list_collections())
        for table in (SUBJECTS, KEYS, JOBS, SPACES):
            if table not in there:
                index = client.prepare_index_params()
                index.add_index("vector", index_type="FLAT", metric_type="L2")
                client.create_collection(
                    table,
                    schema=_schema(client, table),
                    index_params=index,
                    consistency_level="Strong",
                )
            client.load_collection(table)

    await connection.run(work)


async def make_collection(connection: Connection, space: Space) -> None:
    """Makes a collection of templates; the tenants are its partition key."""

    def work(client: MilvusClient) -> None:
        if client.has_collection(space.key):
            return
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        # The sequence number is the primary key, because iterators go by that.
        schema.add_field("sequence", DataType.INT64, is_primary=True)
        schema.add_field("tenant", DataType.VARCHAR, max_length=_TEXT, is_partition_key=True)
        for name in ("subject_id", "id", "map"):
            schema.add_field(name, DataType.VARCHAR, max_length=_TEXT)
        for name in ("confidence", "quality", "created"):
            schema.add_field(name, DataType.DOUBLE)
        schema.add_field("pictures", DataType.INT64)
        schema.add_field("searchable", DataType.BOOL)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=space.dimension)
        index = client.prepare_index_params()
        index.add_index(
            "vector",
            index_type="HNSW",
            metric_type="IP" if space.metric == "cosine" else "L2",
            params={"M": 32, "efConstruction": 200},
        )
        client.create_collection(
            space.key, schema=schema, index_params=index, consistency_level="Strong"
        )

    await connection.run(work)
    await connection.run(lambda client: client.load_collection(space.key))


def plain_row(pk: str, sealed: object, **texts: object) -> Row:
    """A row of a table without vectors; ``sealed`` is stored as JSON."""
    return {
        "pk": pk,
        "sealed": json.dumps(sealed),
        "updated": time.time(),
        "vector": _NO_VECTOR,
        **texts,
    }


def subject_key(tenant: str, subject_id: str) -> str:
    """A subject's primary key; neither part holds a slash."""
    return f"{tenant}/{subject_id}"


def subject_row(tenant: str, subject: Subject) -> Row:
    """A subject as a row."""
    row = plain_row(
        subject_key(tenant, subject.id),
        {"name": subject.name, "metadata": dict(subject.metadata)},
        tenant=tenant,
        id=subject.id,
        consent=subject.consent,
        created=subject.created or time.time(),
    )
    row["updated"] = subject.updated or row["updated"]
    return row


def subject_of(row: Row) -> Subject:
    """A subject from its row."""
    told = json.loads(row["sealed"])
    return Subject(
        id=row["id"],
        name=told["name"],
        metadata=told["metadata"],
        consent=row["consent"],
        created=row["created"],
        updated=row["updated"],
    )


def template_row(template: Template, sequence: int, *, searchable: bool) -> Row:
    """A template as a row."""
    return {
        "sequence": sequence,
        "tenant": template.tenant,
        "subject_id": template.subject_id,
        "id": template.id,
        "map": template.map,
        "confidence": template.confidence,
        "quality": template.quality,
        "pictures": template.pictures,
        "created": template.created or time.time(),
        "searchable": searchable,
        "vector": np.asarray(template.vector, np.float32),
    }


def template_of(space: Space, row: Row) -> Template:
    """A template from its row."""
    return Template(
        tenant=row["tenant"],
        subject_id=row["subject_id"],
        id=row["id"],
        space=space,
        vector=np.asarray(row["vector"], np.float32),
        map=row["map"],
        confidence=row["confidence"],
        quality=row["quality"],
        pictures=row["pictures"],
        created=row["created"],
        sequence=row["sequence"],
    )


class Sequence:
    """Numbers that rise, over several processes as far as their clocks agree."""

    def __init__(self) -> None:
        self._last = 0

    def next(self) -> int:
        """The next number: microseconds, and chance against another process in the same one."""
        now = (time.time_ns() // 1000) << _STAMP_BITS | secrets.randbelow(1 << _STAMP_BITS)
        self._last = max(self._last + 1, now)
        return self._last
