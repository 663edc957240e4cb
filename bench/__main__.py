"""`python -m bench run|compare …`, the same as `karta bench run|compare …`."""

import sys

from bench.command import main

sys.exit(main())
