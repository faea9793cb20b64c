# Stands in for mariadb:11.8, with what compose.yaml asks of it.
FROM python:3.13-slim
RUN groupadd --system --gid 999 mysql && useradd --system --uid 999 --gid 999 mysql \
    && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends mariadb-server \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/lib/mysql/* && install --directory --owner=mysql /run/mysqld
COPY mariadb.sh healthcheck.sh /usr/local/bin/
VOLUME /var/lib/mysql
ENTRYPOINT ["mariadb.sh"]
