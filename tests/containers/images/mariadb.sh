#!/bin/bash
# The first start makes the database and its user, as the variables say.
set -eu
data=/var/lib/mysql
if [ ! -d $data/mysql ]; then
    chown mysql:mysql $data
    mariadb-install-db --user=mysql --datadir=$data --skip-test-db --auth-root-authentication-method=socket >/dev/null
    quoted=${MARIADB_PASSWORD//\\/\\\\} && quoted=${quoted//\'/\'\'}
    cat >/tmp/first.sql <<S
CREATE DATABASE \`$MARIADB_DATABASE\`;
CREATE USER '$MARIADB_USER'@'%' IDENTIFIED BY '$quoted';
GRANT ALL ON \`$MARIADB_DATABASE\`.* TO '$MARIADB_USER'@'%';
S
    set -- "$@" --init-file=/tmp/first.sql
fi
exec mariadbd --user=mysql --datadir=$data --bind-address=0.0.0.0 --skip-name-resolve "$@"
