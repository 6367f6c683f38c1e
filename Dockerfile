# An image for training, tests and grading, on a CPU or a GPU: docs/docker.md.
#
#     docker build -t speech .
#     docker build -t speech-cpu --build-arg TORCH_INDEX=ADDRESS .
#
# Without TORCH_INDEX it has torch with its CUDA libraries, which uses a GPU (`docker run --gpus all`) and runs on a CPU
# too. TORCH_INDEX is the address of torch's wheels for CPUs alone, as torch's page on installation names it; the image is
# then smaller by several GB.

ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG TORCH_INDEX=
# kenlm has no wheels: a C++ compiler and CMake build it.
RUN apt-get update \
    && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PIP_NO_CACHE_DIR=1
COPY requirements.txt ./
# What is installed from TORCH_INDEX satisfies the pins of requirements.txt, which come next.
RUN if [ -n "$TORCH_INDEX" ]; then \
        grep -E '^torch(audio)?==' requirements.txt > torch.txt && pip install --index-url "$TORCH_INDEX" -r torch.txt; \
    fi \
    && pip install -r requirements.txt
RUN pip install kenlm==0.3.0 || echo "kenlm was not built; continuing without it"

FROM python:${PYTHON}-slim-bookworm
# bubblewrap is the sandbox of hw_base.grade; gcc compiles kernels for GPUs.
RUN apt-get update \
    && apt-get install -y --no-install-recommends bubblewrap gcc libc6-dev make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 speech \
    && mkdir /app /cache \
    && chown speech /app /cache
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 XDG_CACHE_HOME=/cache
WORKDIR /app
COPY --chown=speech . .
USER speech
ENTRYPOINT ["python"]
CMD ["train.py", "--help"]
