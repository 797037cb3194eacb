"""`python -m jaxaudio.data.open_sounds OUT --cache DIR`: builds the data set."""

import argparse
import sys

from jaxaudio.data.open_sounds import build
from jaxaudio.errors import JaxAudioError


def main() -> int:
    """Parses the command line and builds; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m jaxaudio.data.open_sounds", description=__doc__)
    parser.add_argument("out", help="a new directory for the built set")
    parser.add_argument("--cache", required=True, help="keeps downloads and renders for the next build")
    parser.add_argument("--only", nargs="+", metavar="PACKAGE", help="take these packages alone")
    parser.add_argument("--seed", type=int, default=0, help="of the deal into splits (default 0)")
    options = parser.parse_args()
    only = frozenset(options.only) if options.only else None
    try:
        build(options.out, options.cache, only=only, seed=options.seed, progress=lambda line: print(line, flush=True))
    except JaxAudioError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
