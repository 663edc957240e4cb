"""The composition root: the one command line, and everything on one machine by `karta up`.

This is the only package that may import all the others. It holds no business logic: a command finds the
database, calls one function of `storage` (or starts one program), and prints what came of it.

- `cli`: the parser, and the one place where errors become a line on stderr and an exit code.
- `commands/`: a module for each group of commands. Each has `register(commands)`, which imports nothing heavy
  (so that `karta --help` is quick), and functions that run.
- `terminal`: how commands read secrets and print results and errors.
- `data_dir`: what `karta up` keeps on disk, its lock, and what a running one tells other commands.
- `database_choice`: which database a command means.
- `lifeline`: how a child notices, by the end of its stdin, that its parent has gone, whatever killed it.
- `service`: one supervised child process: started, awaited, restarted, stopped.
- `postgres_binaries`, `embedded_postgres`, `keeper`, `scram`: the PostgreSQL of `karta up`.
- `provision`: the first run's owner, organization and keys.
- `children`: the programs `karta up` runs, and what each is given.
- `admin_processes`: several processes of the admin pages on one port.
- `up`: puts those together; `welcome` prints the friendly block.
- `health_job`: looks at each part of Karta (`health_targets`) as users do (`health_probes`), once a minute.
- `provider_endpoints`: the gateway's table of providers, in the words of the admin pages.
- `diagnosis`, `database_checks`: what `karta doctor` finds out.
"""
