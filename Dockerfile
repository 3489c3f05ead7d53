FROM python:3.12-slim
WORKDIR /app
COPY requirements-shared.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir --require-hashes -r requirements-shared.lock
COPY timewell timewell
COPY actors actors
COPY web web
RUN pip install --no-cache-dir --no-deps --no-build-isolation . \
    && useradd --create-home timewell \
    && install -d -o timewell /data
USER timewell
ENV HOST=0.0.0.0 DATA_DIR=/data LOG_FORMAT=json
VOLUME /data
EXPOSE 3001
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD \
    ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:3001/health/ready')"]
CMD ["timewell", "serve"]
