"""`python -m web` is `timewell serve`."""

import sys

from web.cli import main

sys.exit(main(["serve", *sys.argv[1:]]))
