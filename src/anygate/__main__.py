"""`python -m anygate` is the `anygate` command."""

import sys

from .cli import main

sys.exit(main())
