"""`python -m tests.attacks --updates 1000000`: mutated updates through gateway and engine of a running server."""

import sys

from tests.attacks.mutate import main

if __name__ == "__main__":
    sys.exit(main())
