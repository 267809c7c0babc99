# One image for a Ray head, its workers, the MLflow server and the pipeline itself.
#
#   make image                     # docker build, with the commit as a label
#   docker run --rm --gpus all gait gait verify
#
# CPU and NVIDIA GPUs alike: the locked torch carries its CUDA libraries, the host its driver.
# Tags can be moved. To pin the very base image, append the digest that
# `docker buildx imagetools inspect python:3.11.14-slim-bookworm` prints: FROM ...@sha256:...
FROM python:3.11.14-slim-bookworm

# git: DVC, and the commit that a run is from. rsync: `ray up` copies files into containers with it.
# wget: KubeRay's own health checks. tini: reaps orphans and passes signals on.
# Debian's mirrors keep one version of a package, so versions cannot be pinned here.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git rsync tini wget \
    && rm -rf /var/lib/apt/lists/* /var/log/apt /var/log/dpkg.log

# The first ordinary user, as in Ray's own images; Kubernetes' securityContext wants a number. `ray up`
# works through login shells, which forget ENV PATH. Volumes take over the owner of these folders.
RUN groupadd --gid 1000 gait \
    && useradd --uid 1000 --gid gait --create-home --shell /bin/bash gait \
    && install --directory --owner=gait --group=gait /app /app/results /artifacts /sweeps \
    && echo "PATH=/opt/venv/bin:\$PATH" > /etc/profile.d/gait.sh

# Dependencies before code, so that a change of code reinstalls nothing. The lock is a constraint:
# every package must be in it, with its hash, and development tools are left out.
ARG UV_VERSION=0.13.9
WORKDIR /app
COPY pyproject.toml requirements.lock ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check \
        "uv==${UV_VERSION}" \
    && /opt/venv/bin/uv pip install --no-cache --compile-bytecode --python /opt/venv/bin/python \
        --require-hashes --constraint requirements.lock \
        --requirement pyproject.toml --extra pipeline --extra cluster

ENV HOME=/home/gait \
    PATH=/opt/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    DO_NOT_TRACK=true \
    RAY_USAGE_STATS_ENABLED=0 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

COPY --chown=gait:gait . .
RUN uv pip install --no-cache --python /opt/venv/bin/python --no-deps \
        --build-constraints requirements.lock --require-build-hashes \
        --preview-features build-dependency-hashes --editable .

USER 1000:1000
# The image has no git history, so DVC must not look for one.
RUN dvc config --local core.no_scm true

ARG COMMIT=none
ENV GAIT_COMMIT=${COMMIT}
LABEL org.opencontainers.image.title="gait" \
      org.opencontainers.image.description="Tracked, reproducible experiments on GAIT-prop" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11.14-slim-bookworm" \
      org.opencontainers.image.revision="${COMMIT}"

# A Ray node is well if its cluster answers; anything else, if the command starts.
HEALTHCHECK --interval=30s --timeout=20s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "if [ -e /tmp/ray/ray_current_cluster ]; then ray health-check; else gait --help > /dev/null; fi"]

ENTRYPOINT ["tini", "--"]
CMD ["gait", "--help"]
