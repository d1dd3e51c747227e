# One node of collab, with its page built in. Node.js and the compiler stay in the first stage.
FROM python:3.12-slim AS build
WORKDIR /src
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY collab collab
COPY migrations migrations
COPY clients clients
RUN python -m venv /app && /app/bin/pip install --no-cache-dir .

FROM python:3.12-slim
RUN useradd --system --create-home --home-dir /data collab
COPY --from=build /app /app
USER collab
WORKDIR /data
ENV PATH=/app/bin:$PATH COLLAB_HOST=0.0.0.0 COLLAB_LOG_FORMAT=json
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=2)"]
CMD ["collab", "serve"]
