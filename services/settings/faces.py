"""Pictures, faces and the networks that work on them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field
from pydantic_settings import NoDecode

from services.settings.base import Group, Port, listed


class ImageSettings(Group):
    """What a picture may be."""

    max_bytes: int = Field(10 * 1024 * 1024, ge=1024, description="largest picture file, bytes")
    max_pixels: int = Field(40_000_000, ge=256, description="largest picture, pixels")
    max_references: int = Field(32, ge=1, le=1000, description="reference pictures in one call")


class DecisionSettings(Group):
    """When a decision is made, and when it is withheld."""

    default_fmr: float = Field(1e-3, gt=0, lt=1, description="false-match rate if none is named")
    min_quality: float = Field(
        10.0, ge=0, le=100, description="below this unified quality: inconclusive"
    )
    max_yaw: float = Field(70.0, gt=0, le=180, description="beyond this many degrees: inconclusive")
    max_pitch: float = Field(60.0, gt=0, le=180, description="likewise, up or down")


class DetectionSettings(Group):
    """How faces are looked for."""

    model: str = Field("yunet", description="detector, as name or name@version")
    min_score: float = Field(0.6, gt=0, lt=1, description="least detector score of a face")
    max_faces: int = Field(500, ge=1, description="most faces that are reported in one picture")
    second_look_yaw: float = Field(
        20.0, ge=0, le=180, description="compared faces turned further are looked at again"
    )
    second_look_side: float = Field(
        64.0, ge=0, description="so are those with at most so many pixels across their crop"
    )


class QueueSettings(Group):
    """The queue before a network."""

    max_batch: int = Field(256, ge=1, description="most crops in one call")
    batch_rows: int = Field(8, ge=1, description="most crops in one inference")
    batch_wait_ms: float = Field(
        0.0, ge=0, description="how long a batch may wait to fill while the engine is busy"
    )
    queue_rows: int = Field(512, ge=1, description="most crops that wait; more are refused")


class EmbeddingSettings(QueueSettings):
    """The embedding service."""

    host: str = "127.0.0.1"
    port: Port = 50052
    http_port: Port = Field(
        8001, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        ("poseface",), min_length=1, description="embedders to load; the first is the default"
    )
    frontalize: bool = Field(
        False, description="draw synthetic faces for human review, where a model can"
    )


class EnhancementSettings(QueueSettings):
    """The enhancement service."""

    host: str = "127.0.0.1"
    port: Port = 50053
    http_port: Port = Field(
        8002, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...], NoDecode, BeforeValidator(listed)] = Field(
        ("ddat", "nir2vis", "vis2nir"),
        description="enhancers to load; none: faces are compared as they are",
    )


class MappingSettings(QueueSettings):
    """The mapping service. A vector is little work, so its batches and its queue are longer."""

    host: str = "127.0.0.1"
    port: Port = 50054
    http_port: Port = Field(
        8003, description="inference protocol over REST, and metrics, when it runs by itself"
    )
    models: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(listed)] = Field(
        None, description="maps to load; unset: the newest of each that is known here; empty: none"
    )
    max_batch: int = Field(1024, ge=1, description="most vectors in one batch of a call")
    batch_rows: int = Field(16, ge=1, description="most vectors in one inference")
    queue_rows: int = Field(8192, ge=1, description="most vectors that wait; more are refused")


class EngineSettings(Group):
    """What runs the networks."""

    preference: Literal["auto", "tensorrt", "cuda", "openvino", "onnxruntime", "triton"] = Field(
        "auto", description="auto: the best that works here; triton: a server elsewhere"
    )
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        "auto", description="auto: the fastest that agrees with fp32 within the parity limits"
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads; 0: one for each CPU")
    triton_address: str = Field("127.0.0.1:8001", description="gRPC address of a Triton server")
