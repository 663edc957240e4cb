#!/bin/sh
# PostgreSQL's archive_command: keeps each finished piece of its log, so that any moment can be restored.
#
#     archive_mode = on
#     archive_timeout = 60                # no more than a minute is lost with the machine
#     archive_command = '/opt/karta/backup/archive-wal.sh "%p" "%f" /backup/wal'
#
# Exit 0 means that it is on disk there, whole; anything else, and PostgreSQL keeps it and asks again.
set -eu
path=$1 name=$2 archive=$3
if [ -e "$archive/$name" ]; then
    # Asked for once more after a crash: the same is well, another one never is.
    cmp -s "$path" "$archive/$name"
    exit
fi
cp "$path" "$archive/.$name.$$"
sync "$archive/.$name.$$"
mv "$archive/.$name.$$" "$archive/$name"
sync "$archive"
