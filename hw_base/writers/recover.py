"""Make uploadable archives of what killed runs reported to Comet: ``python -m hw_base.writers.recover RUN_DIR``."""

import argparse
import sys
from pathlib import Path

from hw_base.writers.archives import collect


def main(argv: list[str] | None = None) -> int:
    """Entry point.

    Returns:
        0, or 2 where there is no such folder.
    """
    parser = argparse.ArgumentParser(prog="python -m hw_base.writers.recover", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="the run folder; its run must be over")
    folder = parser.parse_args(argv).run_dir / "comet"
    if not folder.is_dir():
        print(f"{folder} does not exist: nothing was reported to Comet there", file=sys.stderr)
        return 2
    made = collect(folder)
    for archive in made:
        print(archive)
    print(f"{len(made)} archive(s) made, {len(list(folder.glob('*.zip')))} in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
