"""`python -m karta`: the same as the console script."""

import sys

from karta.cli import main

sys.exit(main())
