"""``python -m wanoffload``: the command line."""

import sys

from wanoffload.cli import main

sys.exit(main())
