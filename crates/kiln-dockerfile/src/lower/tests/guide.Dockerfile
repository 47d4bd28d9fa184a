FROM alpine:3.20 AS builder
RUN apk add --no-cache \
    python3 py3-pip build-base python3-dev gcc g++ musl-dev \
    patchelf ccache linux-headers libffi-dev openssl-dev rust cargo git make
ENV CCACHE_DIR=/root/.ccache PATH=/usr/lib/ccache/bin:$PATH
RUN python3 -m venv /venv
ENV PATH="/venv/bin:$PATH" VIRTUAL_ENV="/venv"
WORKDIR /src
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install --upgrade pip && \
    pip install -r requirements.txt && \
    pip install nuitka ordered-set
COPY . .
ARG ARCH ENABLE_LTO=yes
RUN --mount=type=cache,target=/root/.ccache \
    python3 -m nuitka --mode=onefile \
    --output-filename=chatrixcd-linux-${ARCH} \
    --enable-plugin=anti-bloat \
    --assume-yes-for-downloads \
    --static-libpython=yes \
    --lto=${ENABLE_LTO} \
    --jobs=4 \
    --linux-icon=assets/icon.png \
    --include-data-dir=assets=assets \
    chatrixcd/main.py
FROM scratch AS export
ARG ARCH
COPY --from=builder /src/chatrixcd-linux-${ARCH} /
