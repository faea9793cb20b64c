# Stands in for nginxinc/nginx-unprivileged: nginx as the user 101 of the group 101, on port 8080.
FROM python:3.13-slim
RUN groupadd --system --gid 101 nginx && useradd --system --uid 101 --gid 101 nginx \
    && apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends nginx-light \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt \
    && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log
STOPSIGNAL SIGQUIT
USER 101
CMD ["nginx", "-e", "stderr", "-g", "daemon off;"]
