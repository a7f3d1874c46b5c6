# CPU build, without root: docker build -t raylight . && docker run --rm --shm-size=1g -v "$PWD:/work" raylight train data.root=photos
#   serve: docker run --rm -p 7860:7860 -v "$PWD:/work" raylight serve RUN --host 0.0.0.0
FROM python:3.12-slim-bookworm

# OpenMP for torch; nothing else is taken from the system.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1=12.* \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/raylight
COPY constraints.txt pyproject.toml README.md LICENSE train.py ./
COPY conf conf
COPY src src
# The CPU build of PyTorch is a tenth of the size of the plain one. Compiled here, where the files can be written.
RUN pip install --no-cache-dir -c constraints.txt --no-deps torch torchvision --index-url https://download.pytorch.org/whl/cpu \
    && pip install --no-cache-dir --compile -c constraints.txt '.[export,labels,sweeper]'

# A user without rights; with another one (docker run --user) HOME is made among the temporary files.
RUN useradd --create-home --uid 1000 raylight && mkdir /work && chown raylight:raylight /work
USER 1000
WORKDIR /work
ENV PYTHONUNBUFFERED=1 RAY_USAGE_STATS_ENABLED=0
EXPOSE 7860
ENTRYPOINT ["raylight"]
CMD ["train"]
