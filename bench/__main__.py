"""`python -m bench run|compare …`, the same as `karta bench run|compare …`."""

import argparse
import sys

from bench.command import configure, main

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench", description="Karta's load harness.")
    configure(parser)
    sys.exit(main(parser.parse_args()))
