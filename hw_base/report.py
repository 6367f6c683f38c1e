# PYTHON_ARGCOMPLETE_OK
"""A page about one or several runs: ``python -m hw_base.report RUN [RUN ...] -o report.html``."""

import sys
from collections.abc import Sequence
from pathlib import Path

from hw_base.errors import ConfigError
from hw_base.reports import common, render
from hw_base.reports.blocks import Section
from hw_base.reports.contract import Page, report_of
from hw_base.reports.language import LANGUAGES, Language
from hw_base.reports.media import MediaStore
from hw_base.reports.record import Run, read_runs
from hw_base.runs import cli
from hw_base.runs.parser import Parser

_TEXT = 1_500_000  # bytes kept free for everything that is no sound, picture or script


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser(
        "python -m hw_base.report",
        "Write a page about one or several runs that opens without a network.",
        ["runs/a runs/b -o report.html"],
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folder; the first is the baseline")
    parser.add_argument("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="report.html")
    parser.add_argument("--markdown", action="store_true", help="also write FILE.md and its pictures and sounds")
    parser.add_argument("--language", choices=LANGUAGES, default="en", help="of headings and sentences (default: en)")
    parser.add_argument("--title", help="of the page (default: the names of the runs)")
    parser.add_argument("--examples", type=cli.positive(int), default=3, metavar="N", help="in each list (default: 3)")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.output.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"-o {arguments.output}: expected the name of a .html file")
        runs = read_runs(arguments.runs)
        plotly = render.plotly_script()
        say = Language(arguments.language)
        store = MediaStore(render.LARGEST - len(plotly) - _TEXT)
        title = arguments.title or ", ".join(run.name for run in runs)
        sections = sections_of(runs, Page(store, say, arguments.examples))
        text = render.html(title, sections, say, plotly)
        render.write(arguments.output, text)
        print(f"{len(runs)} runs, {len(text.encode()) / 1e6:.1f} MB -> {arguments.output}")
        if arguments.markdown:
            path = arguments.output.with_suffix(".md")
            folder = path.with_name(f"{path.stem}_media")
            render.write(path, render.markdown(title, sections, say, folder), "--markdown")
            print(f"{path} and {folder}/")
        return 0

    return cli.run(work)


def sections_of(runs: Sequence[Run], page: Page) -> list[Section]:
    """Everything that the page shows."""
    say = page.say
    tasks = list(dict.fromkeys(run.task for run in runs))
    reports = [(task, report) for task in tasks if (report := report_of(task)) is not None]
    metrics = [metric for _, report in reports for metric in report.main_metrics]
    sections = [common.overview(runs, say), common.configs(runs, say), common.curves(runs, metrics, say)]
    for task, report in reports:
        sections += report.sections([run for run in runs if run.task == task], page)
    sections += [common.findings(runs, say), common.reproduction(runs, say), common.writing(say)]
    return sections + common.left_out(page)


if __name__ == "__main__":
    sys.exit(main())
