#!/bin/sh
# A base backup of the whole server, verified: backup.sh DIRECTORY [CONNECTION]
#
#     backup.sh /backup/base "host=db.internal user=backup"
#
# The login needs the attribute REPLICATION. Prints the folder it made. Run it daily; keep the log (archive-wal.sh) since
# the oldest one that you keep. A backup has everything but the master keys: keep those elsewhere, or it is worth
# nothing, or everything to whoever finds both.
set -eu
umask 077
target="$1/$(date -u +%Y-%m-%dT%H-%M-%SZ)"
pg_basebackup --dbname="${2:-}" --pgdata="$target.unfinished" \
    --checkpoint=fast --wal-method=stream --manifest-checksums=SHA256 --no-password
# Each file against its checksum, and that the log it needs is there and can be read.
pg_verifybackup --quiet "$target.unfinished"
mv "$target.unfinished" "$target"
echo "$target"
