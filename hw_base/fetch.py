# PYTHON_ARGCOMPLETE_OK
"""Get a data set by its link: ``python -m hw_base.fetch LINK -o DIR``.

python -m hw_base.fetch https://example.org/recordings.zip -o data/mine
python -m hw_base.fetch "https://drive.google.com/file/d/ID/view?usp=sharing" -o data/mine
python -m hw_base.fetch https://disk.yandex.ru/d/KEY -o data/mine
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from hw_base.datasets.custom_dir import CustomDir
from hw_base.datasets.links import Sites, fetch_dataset
from hw_base.runs import cli
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None, sites: Sites | None = None) -> int:
    """The command; its exit code."""
    parser = Parser(
        "python -m hw_base.fetch",
        "Download recordings that a link leads to: an archive, or a shared folder of Drive or Yandex Disk.",
        ["https://disk.yandex.ru/d/KEY -o data/mine"],
    )
    parser.add_argument("link", metavar="LINK", help="as copied in the browser; or an archive on this machine")
    parser.add_argument("-o", "--output", metavar="DIR", type=Path, required=True, help="folder to make")
    arguments = parser.parse_args(argv)

    def work() -> int:
        root = fetch_dataset(arguments.link, arguments.output, sites)
        records = CustomDir(str(root)).records
        known = sum(record.text is not None for record in records)
        seconds = sum(record.duration for record in records)
        print(f"{root}: {len(records)} recordings, {seconds / 60:.1f} minutes, {known} with transcripts")
        return 0

    return cli.run(work)


if __name__ == "__main__":
    sys.exit(main())
