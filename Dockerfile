# One node of collab, with its page built in: `docker build -t collab-server .`
#
# Every Python package is pinned by hash to what the tests ran with (deploy/requirements*.txt), the page's packages by
# clients/web/package-lock.json. Node.js, npm and the build tools stay in the first stage.
ARG PYTHON=python:3.12-slim

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# What changes seldom comes first: a change of code installs nothing anew.
COPY deploy/requirements.txt deploy/requirements-build.txt /src/deploy/
RUN python -m venv --without-pip /app \
 && pip --python /app install --require-hashes -r /src/deploy/requirements.txt \
 && python -m venv --without-pip /tools \
 && pip --python /tools install --require-hashes -r /src/deploy/requirements-build.txt
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY migrations migrations
COPY clients clients
COPY collab collab
RUN PATH=/tools/bin:$PATH pip --python /tools wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
 && pip --python /app install --no-deps --no-index /wheel/*.whl

FROM ${PYTHON}
RUN useradd --system --uid 10001 --create-home --home-dir /data collab
COPY --from=build /app /app
USER 10001
WORKDIR /data
# In production mode it says what else must be set; `docker run -e COLLAB_ENVIRONMENT=development` tries it without.
ENV PATH=/app/bin:$PATH PYTHONDONTWRITEBYTECODE=1 COLLAB_ENVIRONMENT=production COLLAB_HOST=0.0.0.0 COLLAB_PORT=8000 \
    COLLAB_LOG_FORMAT=json
EXPOSE 8000
STOPSIGNAL SIGTERM
# Alive, not ready: an outage of the database is no reason to start a node again that holds unsaved edits.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s --start-interval=1s CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"COLLAB_PORT\"]}/livez', timeout=2)"]
CMD ["collab", "serve"]
