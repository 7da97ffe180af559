# syntax=docker/dockerfile:1
# The gateway as an image: `docker build -t propylon .` No stage needs anything but this folder and a package index.
# BASE is a Debian with Python 3.11 or newer as `python3`, and `venv`. Both stages use it, because the environment of the first has
# links to its interpreter. Pin it by digest in production: `--build-arg BASE=python:3.13-slim@sha256:…`.
ARG BASE=python:3.13-slim

# ------------------------------------------------------------------------------------------------------------- build
FROM ${BASE} AS build
# A package index of your own: `--build-arg PIP_INDEX_URL=…`. Arguments of this stage are not in the final image.
ARG PIP_INDEX_URL
ARG PIP_TRUSTED_HOST
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build

# The compiler is for the one file of Propylon that is C (docs/operations/native.md), and stays in this stage. Without the headers of
# Python in BASE the image is pure Python.
# `strip` takes the debugging symbols out of the extension modules: a third of what the packages weigh.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends binutils gcc libc6-dev && rm -rf /var/lib/apt/lists/*

# What changes rarely comes first: this layer is built anew only when a lock file changes.
COPY requirements.txt requirements-build.lock ./
RUN python3 -m venv --without-pip /opt/propylon \
 && python3 -m venv /opt/build \
 && /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/propylon/bin/python install --require-hashes --only-binary :all: -r requirements.txt \
 && find /opt/propylon -name '*.so' -exec strip --strip-unneeded {} +

COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY src ./src
# No file may be changed by whoever runs the gateway, and the modules are compiled: a read-only root cannot be written to later.
RUN /opt/build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/propylon/bin/python install --no-deps --no-index dist/*.whl \
 && chmod -R a-w,a+rX /opt/propylon \
 && mkdir /data

# ----------------------------------------------------------------------------------------------------------- runtime
FROM ${BASE}
LABEL org.opencontainers.image.title="propylon" \
      org.opencontainers.image.description="An API gateway for teams that write Python" \
      org.opencontainers.image.licenses="MIT"

# No RUN in this stage, and no shell in any command: what the base has beside Python is not used.
COPY --from=build /opt/propylon /opt/propylon
# The only place that the gateway writes to: the database of users, unless it is PostgreSQL. propylon.yaml is read from
# here, too, unless PROPYLON_CONFIG names it.
COPY --from=build --chown=65532:65532 /data /data
VOLUME /data
WORKDIR /data

# PROPYLON_HOST: all addresses of IPv6 and IPv4, unless the file says where to listen.
ENV PATH=/opt/propylon/bin:/usr/local/bin:/usr/bin:/bin \
    HOME=/data \
    PROPYLON_HOST=:: \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000

# By number, so that Kubernetes can check runAsNonRoot. The user needs no entry in /etc/passwd.
USER 65532:65532

HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["propylon", "health", "--timeout", "4"]
ENTRYPOINT ["propylon"]
CMD ["run"]
