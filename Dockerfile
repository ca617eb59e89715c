# Mien for the CPU, and with `--target gpu` for an NVIDIA GPU: one image for every service, chosen by command (`serve gateway`,
# `serve embedding`, `serve enhancement`, `serve mapping`, or `serve` alone for all in one process).

# A tag and not a digest: the base gets Debian's and Python's security fixes under its tag, and the
# image is meant to be built anew for each release. Who needs bit-for-bit builds puts the digest of
# a base that they have tested here.
FROM python:3.11-slim-bookworm AS base


FROM base AS builder
# A package index of one's own, as pip understands it; the public one if it is not given.
ARG PIP_INDEX_URL
WORKDIR /src
RUN python -m venv /opt/mien
ENV PATH=/opt/mien/bin:$PATH
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY services services
# It is this package itself, and no version of another that could be pinned.
# hadolint ignore=DL3013
RUN --mount=type=cache,target=/root/.cache/pip pip install ".[tracing,gallery-milvus]"


# The weights travel in the image, so that it needs no network when it starts.
FROM builder AS weights
ARG PIP_INDEX_URL
ENV MIEN_HOME=/var/lib/mien
RUN mien models pull


# Python, CUDA and TensorRT of the vendor, whose versions fit each other.
FROM nvcr.io/nvidia/tensorrt:25.06-py3 AS gpu
ARG PIP_INDEX_URL
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY services services
# It sees the vendor's TensorRT; all else it brings itself.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv --system-site-packages /opt/mien \
    && /opt/mien/bin/pip install ".[tracing,gallery-milvus]" "onnx>=1.17"
RUN groupadd --gid 10001 mien \
    && useradd --uid 10001 --gid mien --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin mien \
    && install -d /var/lib/mien \
    && install -d -o mien -g mien -m 0750 /var/lib/mien/models /var/lib/mien/gallery \
        /var/lib/mien/engines /var/lib/mien/access
COPY --from=weights /var/lib/mien/weights /var/lib/mien/weights
ENV PATH=/opt/mien/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MIEN_HOME=/var/lib/mien \
    MIEN_GALLERY__URI=sqlite:/var/lib/mien/gallery/gallery.sqlite3 \
    MIEN_ACCESS__DATABASE=/var/lib/mien/access/access.sqlite3 \
    MIEN_GATEWAY__HTTP_HOST=0.0.0.0 \
    MIEN_GATEWAY__GRPC_HOST=0.0.0.0 \
    MIEN_EMBEDDING__HOST=0.0.0.0 \
    MIEN_ENHANCEMENT__HOST=0.0.0.0 \
    MIEN_MAPPING__HOST=0.0.0.0
VOLUME /var/lib/mien/models
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000 50051 50052 8001 50053 8002 50054 8003
# The vendor's entrypoint prints a page at each start.
ENTRYPOINT ["mien"]
CMD ["serve"]


FROM base AS runtime
LABEL org.opencontainers.image.title="Mien" \
      org.opencontainers.image.description="Face verification at a stated false-match rate, over REST and gRPC" \
      org.opencontainers.image.licenses="Apache-2.0"

# By number, so that an orchestrator can see that the user is not root.
RUN groupadd --gid 10001 mien \
    && useradd --uid 10001 --gid mien --no-create-home --home-dir /nonexistent \
        --shell /usr/sbin/nologin mien \
    && install -d /var/lib/mien \
    && install -d -o mien -g mien -m 0750 /var/lib/mien/models /var/lib/mien/gallery \
        /var/lib/mien/engines /var/lib/mien/access

COPY --from=builder /opt/mien /opt/mien
COPY --from=weights /var/lib/mien/weights /var/lib/mien/weights

# Nothing is written outside the volume and /tmp: the root can be read-only.
ENV PATH=/opt/mien/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MPLCONFIGDIR=/tmp/matplotlib \
    MIEN_HOME=/var/lib/mien \
    MIEN_GALLERY__URI=sqlite:/var/lib/mien/gallery/gallery.sqlite3 \
    MIEN_ACCESS__DATABASE=/var/lib/mien/access/access.sqlite3 \
    MIEN_GATEWAY__HTTP_HOST=0.0.0.0 \
    MIEN_GATEWAY__GRPC_HOST=0.0.0.0 \
    MIEN_EMBEDDING__HOST=0.0.0.0 \
    MIEN_ENHANCEMENT__HOST=0.0.0.0 \
    MIEN_MAPPING__HOST=0.0.0.0

# Only the models that an operator adds. The released weights beside it stay part of the image: in a
# volume, those of an older release would hide those of a newer one.
VOLUME /var/lib/mien/models

USER 10001:10001
WORKDIR /tmp
# REST, gRPC; embedding, enhancement and mapping service, each with its metrics.
EXPOSE 8000 50051 50052 8001 50053 8002 50054 8003

# For the gateway and for all in one process. The other services speak no HTTP but metrics and the
# inference protocol: there, use `mien health 127.0.0.1:50052`, as docker-compose.yml does. No proxy:
# one that the environment names for outgoing calls must not get between a container and itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('MIEN_GATEWAY__HTTP_PORT', '8000') + '/healthz/live', timeout=2)"]

ENTRYPOINT ["mien"]
CMD ["serve"]
