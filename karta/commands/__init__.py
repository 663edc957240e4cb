"""The groups of commands. `register` of each adds its parsers and imports nothing heavy; `run` functions
do."""
