"""Karta on several hosts: `python -m tests.reach.hosts`, or `tox -e hosts`.

The hosts are network namespaces of this machine, each with its own interfaces, and a switch between them is
another: `world` makes the place (as root, or in a user namespace), `network` the hosts and their cables,
`site` what runs on them, `traffic` the clients, `scenarios` and `disasters` what happens.

    client    10.71.1.1               the load
    a, b      10.71.1.2-3  10.71.2.2-3   `karta gateway`, each with workers and a journal of its own
    admin     10.71.1.4    10.71.2.4     `karta admin`
    provider  10.71.1.5               `karta sim`
    postgres               10.71.2.6  PostgreSQL, by password

So a host can lose its database and keep its clients. Nothing of the machine's own network is touched, and
nothing is left, not even after a SIGKILL: see `world`.
"""
