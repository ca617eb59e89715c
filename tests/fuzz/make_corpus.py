"""Writes the first inputs of the fuzzers: ``python -m tests.fuzz.make_corpus``."""

from __future__ import annotations

import base64
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import encoded, gradient

_CORPUS = Path(__file__).parent / "corpus"
_ZOO = Path(__file__).parents[2] / "models" / "zoo"
_SMALL = gradient(24, 18)
_PNG = encoded(_SMALL, "PNG")


def inputs() -> Iterator[tuple[str, str, bytes]]:
    """Target, name of the file, content."""
    for form in ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "HEIC"):
        yield "pictures", form.lower(), encoded(_SMALL, form)
    yield "pictures", "jpeg-progressive", encoded(_SMALL, "JPEG", progressive=True)
    yield "pictures", "jpeg-cmyk", encoded(_SMALL.convert("CMYK"), "JPEG")
    yield "pictures", "png-palette", encoded(_SMALL.convert("P"), "PNG")
    yield "pictures", "png-alpha", encoded(_SMALL.convert("RGBA"), "PNG")
    yield "pictures", "webp-lossless", encoded(_SMALL, "WEBP", lossless=True)
    yield "pictures", "tiff-lzw", encoded(_SMALL, "TIFF", compression="tiff_lzw")
    picture = base64.b64encode(_PNG).decode()
    vector = {
        "model": dict.fromkeys(("name", "version", "weights_sha256", "preprocessing_sha256"), "x"),
        "values": [0.5, -1.0],
    }
    bodies: tuple[dict[str, object], ...] = (
        {"probe": picture, "references": [picture], "fmr": 0.001, "include": ["enhanced"]},
        {"image": picture},
        {"id": "anna", "name": "Anna", "metadata": {"a": "b"}},
        {"pictures": [picture], "vectors": [vector], "poor": "leave_out"},
        {"vectors": [vector | {"values": "AACAPwAAgD8="}], "fpir": 0.01, "limit": 3},
    )
    for number, body in enumerate(bodies):
        yield "bodies", f"json-{number}", bytes([number << 1]) + json.dumps(body).encode()
        yield "bodies", f"form-{number}", bytes([number << 1 | 1]) + _form(body)
    row = json.dumps({"subject_id": "anna", "pictures": [picture], "vectors": [vector]})
    yield "rows", "lines", b"\0" + f"{row}\n\n{row}\r\n".encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in ("anna/1.png", "anna/.hidden", "bert/1.png", "__MACOSX/x"):
            packed.writestr(zipfile.ZipInfo(name), _PNG)
    yield "rows", "archive", b"\1" + archive.getvalue()
    yield "vectors", "two", struct.pack("<2f", 0.6, 0.8)
    yield "vectors", "odd", struct.pack("<2f", float("nan"), 3e38)
    for model in ("sface/1", "drgan/1", "dlib-to-poseface/2"):
        card = json.loads((_ZOO / model / "card.json").read_text(encoding="utf-8"))
        yield "cards", model.replace("/", "-"), json.dumps(card).encode()


def _form(body: dict[str, object]) -> bytes:
    parts = b""
    for name, value in body.items():
        if name in ("probe", "image", "references", "pictures"):
            field = {"references": "reference", "pictures": "picture"}.get(name, name)
            head, content = f'name="{field}"; filename="x"', _PNG
        else:
            head, content = f'name="{name}"', json.dumps(value).encode()
        parts += f"--edge\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode()
        parts += content + b"\r\n"
    return parts + b"--edge--\r\n"


if __name__ == "__main__":
    for target, name, data in inputs():
        folder = _CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
