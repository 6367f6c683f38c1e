# PYTHON_ARGCOMPLETE_OK
"""Get recordings or checkpoints by a link: ``python -m hw_base.fetch https://disk.yandex.ru/d/KEY -o data/mine``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hw_base.datasets.custom_dir import CustomDir
from hw_base.datasets.links import Sites, dataset_root, fetch_files
from hw_base.errors import DataError
from hw_base.runs import cli
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None, sites: Sites | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_base.fetch",
        "Download what a link leads to: an archive, or a shared folder of Google Drive or Yandex Disk.",
        ["https://disk.yandex.ru/d/KEY -o data/mine"],
    )
    parser.add_argument("link", metavar="LINK", help="as copied in the browser; or an archive on this machine")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args(argv)

    def work() -> int:
        folder = fetch_files(arguments.link, arguments.output, sites)
        try:
            root = dataset_root(folder)
        except DataError:  # checkpoints, lists
            print(f"{folder}: {sum(path.is_file() for path in folder.rglob('*'))} files, no recordings among them")
            return 0
        records = CustomDir(str(root)).records
        known = sum(record.text is not None for record in records)
        seconds = sum(record.duration for record in records)
        print(f"{root}: {len(records)} recordings, {seconds / 60:.1f} minutes, {known} with transcripts")
        return 0

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())
