"""`python -m tests.gpu`."""

import sys

from tests.gpu.run import main

if __name__ == "__main__":
    sys.exit(main())
