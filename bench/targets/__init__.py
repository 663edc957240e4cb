"""What can be compared: each target says how it is installed and started, and which processes are it.

A target is opened with the simulated provider's URL and the cores it may use, and gives the URL to ask, the
keys to ask with and the process ids to watch.  One that is not installed, or does not start, raises
`TargetUnavailable` with the reason, which the report then shows: nothing is ever guessed.

`base` has the vocabulary, `registry` the list by name; a new target is a module and a line there.  `packages`
installs other people's gateways, pinned by what is in `locked`, and `program` starts them.
"""
