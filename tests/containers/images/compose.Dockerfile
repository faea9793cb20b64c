# Compose itself, as Debian has it; it speaks to the engine's socket.
FROM python:3.13-slim
RUN apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends docker-compose \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt
ENTRYPOINT ["docker-compose"]
