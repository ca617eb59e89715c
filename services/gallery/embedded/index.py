"""Search in memory: an exact scan up to a size; above it 8-bit codes, and the best exactly.

Codes are a quarter of the memory that a scan has to read, and memory is what a scan waits for. They
need no training to speak of, so that a template is found as soon as it is stored, and a deleted one
is overwritten. docs/decisions/0007-gallery-search.md tells what else was measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import faiss
import numpy as np
from numpy.typing import NDArray

from services.gallery.values import Metric, Vector

Numbers = NDArray[np.int64]

_GROWTH = 1.5
_LEAST_ROOM = 64
_SPARE = 4  # rows looked at for each that is wanted, since a subject has several templates
_RERANKED = 10  # codes compared exactly for each row that is wanted
_LEAST_RERANKED = 100


class VectorIndex:
    """Vectors of one tenant and one space, by row number; safe for threads.

    Args:
        dimension: of the vectors.
        metric: "cosine" takes unit vectors.
        exact: most vectors that are scanned as they are.
    """

    def __init__(self, dimension: int, metric: Metric, exact: int) -> None:
        self._metric = faiss.METRIC_INNER_PRODUCT if metric == "cosine" else faiss.METRIC_L2
        self._dimension, self._exact = dimension, exact
        self._vectors: Vector = np.empty((0, dimension), np.float32)
        self._numbers: Numbers = np.empty(0, np.int64)
        self._subjects: Numbers = np.empty(0, np.int64)
        self._place: dict[int, int] = {}
        self._codes: faiss.IndexScalarQuantizer | None = None
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._place)

    def __contains__(self, number: object) -> bool:
        return number in self._place

    @property
    def by_codes(self) -> bool:
        """Whether it has grown beyond an exact scan."""
        return self._codes is not None

    def fill(self, numbers: Sequence[int], subjects: Sequence[int], vectors: Vector) -> None:
        """Takes over vectors, of which the first rows are meant, into an index that is empty."""
        size = len(numbers)
        with self._lock:
            self._vectors = vectors
            self._numbers = np.zeros(len(vectors), np.int64)
            self._subjects = np.zeros(len(vectors), np.int64)
            self._numbers[:size], self._subjects[:size] = numbers, subjects
            self._place = dict(zip(numbers, range(size), strict=True))
            if size > self._exact:
                self._encode(size)

    def add(self, numbers: Sequence[int], subjects: Sequence[int], vectors: Vector) -> None:
        """Takes in vectors N x dimension under new row numbers, with their subjects' numbers."""
        with self._lock:
            start, end = len(self._place), len(self._place) + len(numbers)
            self._reserve(end)
            self._vectors[start:end] = vectors
            self._numbers[start:end] = numbers
            self._subjects[start:end] = subjects
            self._place.update(zip(numbers, range(start, end), strict=True))
            if self._codes is not None:
                self._codes.add(self._vectors[start:end])
            elif end > self._exact:
                self._encode(end)

    def remove(self, numbers: Sequence[int]) -> int:
        """Overwrites vectors; returns how many there were."""
        with self._lock:
            found = 0
            for number in numbers:
                place = self._place.pop(number, None)
                if place is not None:
                    self._fill(place, len(self._place))
                    found += 1
            return found

    def count_of(self, subject: int) -> int:
        """How many vectors of a subject are here."""
        with self._lock:
            return int(np.count_nonzero(self._subjects[: len(self._place)] == subject))

    def search(self, queries: Vector, limit: int) -> list[list[tuple[int, float]]]:
        """For each query the nearest subjects.

        Args:
            queries: N x dimension.
            limit: most subjects for each.

        Returns:
            For each query, (row number, similarity) of the best vectors of different subjects, best
            first; similarity is the cosine or the negative distance.
        """
        with self._lock:
            size = len(self._place)
            if size == 0:
                return [[] for _ in queries]
            wanted = min(size, limit * _SPARE)
            while True:
                values, places = self._nearest(queries, wanted, size)
                answers = [
                    self._of_different_subjects(row, value, limit)
                    for row, value in zip(places, values, strict=True)
                ]
                if wanted == size or all(len(answer) == limit for answer in answers):
                    return answers
                wanted = min(size, wanted * _SPARE)

    def _nearest(self, queries: Vector, count: int, size: int) -> tuple[Vector, Numbers]:
        """Similarities and places of the nearest vectors: N x count, best first."""
        if self._codes is None:
            values, places = faiss.knn(queries, self._vectors[:size], count, metric=self._metric)
        else:
            looked = min(size, max(count * _RERANKED, _LEAST_RERANKED))
            _, near = self._codes.search(queries, looked)
            values, places = self._exactly(queries, near, count)
        if self._metric == faiss.METRIC_L2:
            values = -np.sqrt(np.maximum(values, 0.0))
        return values, places

    def _exactly(self, queries: Vector, near: Numbers, count: int) -> tuple[Vector, Numbers]:
        """Compares candidates exactly and keeps the best: values as `faiss.knn` gives them."""
        rows = self._vectors[near]
        if self._metric == faiss.METRIC_L2:
            values = np.square(rows - queries[:, None]).sum(axis=2)
            order = np.argsort(values, axis=1, kind="stable")[:, :count]
        else:
            values = np.einsum("nkd,nd->nk", rows, queries)
            order = np.argsort(-values, axis=1, kind="stable")[:, :count]
        return np.take_along_axis(values, order, 1), np.take_along_axis(near, order, 1)

    def _of_different_subjects(
        self, places: Numbers, values: Vector, limit: int
    ) -> list[tuple[int, float]]:
        # The first of each subject is its best, since the best come first.
        _, first = np.unique(self._subjects[places], return_index=True)
        first = np.sort(first)[:limit]
        numbers = self._numbers[places[first]].tolist()
        return list(zip(numbers, values[first].tolist(), strict=True))

    def _reserve(self, rows: int) -> None:
        room = len(self._numbers)
        if rows <= room:
            return
        more = max(rows, _LEAST_ROOM, int(room * _GROWTH) if room else 0) - room
        size = len(self._place)
        grown = np.empty((room + more, self._dimension), np.float32)
        grown[:size] = self._vectors[:size]
        self._vectors = grown
        self._numbers = np.append(self._numbers, np.zeros(more, np.int64))
        self._subjects = np.append(self._subjects, np.zeros(more, np.int64))

    def _encode(self, size: int) -> None:
        codes = faiss.IndexScalarQuantizer(
            self._dimension, faiss.ScalarQuantizer.QT_8bit, self._metric
        )
        codes.train(self._vectors[:size])  # the range of each dimension
        codes.add(self._vectors[:size])
        self._codes = codes

    def _fill(self, place: int, last: int) -> None:
        """Moves the last row into a freed place, and wipes where it was."""
        if place != last:
            self._vectors[place] = self._vectors[last]
            self._subjects[place] = self._subjects[last]
            self._numbers[place] = self._numbers[last]
            self._place[int(self._numbers[last])] = place
        self._vectors[last] = 0.0
        if self._codes is not None:
            width = self._codes.code_size
            codes = faiss.rev_swig_ptr(self._codes.codes.data(), (last + 1) * width)
            codes[place * width : (place + 1) * width] = codes[last * width :]
            codes[last * width :] = 0
            self._codes.codes.resize(last * width)
            self._codes.ntotal = last
