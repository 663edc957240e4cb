#!/bin/sh
# Makes a data directory that a server recovers from by itself when it starts:
# restore.sh BACKUP ARCHIVE NEW_DATA_DIRECTORY [TIME]
#
#     restore.sh /backup/base/2026-11-25T02-00-00Z /backup/wal /var/lib/postgresql/restored "2026-11-25 13:37:00+00"
#
# TIME is the moment to go back to, with its zone; without it everything that the archive has comes back. Never into
# the directory of a server that runs. docs/how-to/backup.md says what to do then.
set -eu
umask 077
backup=$1 archive=$2 data=$3 time=${4:-}
if [ -e "$data" ]; then
    echo "restore.sh: $data exists: name a new directory" >&2
    exit 1
fi
pg_verifybackup --quiet "$backup"
cp -R "$backup" "$data"
{
    echo "restore_command = 'cp \"$archive/%f\" \"%p\"'"
    # The old server's: two that write into one archive would spoil it.
    echo "archive_mode = off"
    echo "recovery_target_action = 'promote'"
    if [ -n "$time" ]; then
        echo "recovery_target_time = '$time'"
    fi
} >> "$data/postgresql.auto.conf"
touch "$data/recovery.signal"
chmod 700 "$data"
