# PYTHON_ARGCOMPLETE_OK
"""Grade a submission or a class: ``python -m hw_base.grade --submission DIR --task asr --data DIR -o report.json``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hw_base.errors import ConfigError, HwError
from hw_base.grading import formats, hidden, sandbox, settings
from hw_base.grading.classroom import grade_class
from hw_base.grading.contract import grading_of
from hw_base.grading.control_group import parent_group
from hw_base.grading.limits import Limits
from hw_base.grading.outcome import ExitCode
from hw_base.grading.request import Request
from hw_base.grading.single import grade
from hw_base.runs.parser import Parser
from hw_base.texts.files import from_json


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code, see `ExitCode`."""
    arguments = _parser().parse_args(argv)
    try:
        return _work(arguments)
    except HwError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return ExitCode.USAGE
    except KeyboardInterrupt:
        print("interrupted; the same command resumes", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        "python -m hw_base.grade",
        str(__doc__),
        [
            "--submission submission.zip --task asr --data hidden -o report.json",
            "--submissions class --task tts --data hidden --jobs 2 -o reports",
        ],
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--submission", type=Path, metavar="DIR", help="folder, zip or tar")
    what.add_argument("--submissions", type=Path, metavar="CLASS_DIR", help="folder of those")
    parser.add_argument("--task", required=True, help="asr or tts")
    parser.add_argument(
        "--data", type=Path, required=True, metavar="HIDDEN_DIR", help="audio/ and transcriptions/, perhaps in sets"
    )
    parser.add_argument("--references", type=Path, metavar="DIR", help="references that lie elsewhere")
    parser.add_argument("-c", "--config", type=Path, metavar="FILE", help="configs/grading/NAME.json")
    parser.add_argument("-o", "--output", type=Path, required=True, help="report.json, or a folder for a class")
    parser.add_argument("--limits", default="", help="time=600,memory=8G,disk=2G,processes=64 (the default)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="submissions at a time (default: 1)")
    parser.add_argument("--format", choices=sorted(formats.FILES), help="also write the file of another system")
    parser.add_argument("--adjustments", type=Path, metavar="FILE", help='JSON: {"submission": {"name": points}}')
    parser.add_argument("--no-sandbox", action="store_true", help="run submissions unprotected")
    return parser


def _work(arguments: argparse.Namespace) -> int:
    request = _request(arguments)
    if arguments.submissions is not None:
        if arguments.jobs < 1:
            raise ConfigError("--jobs: at least 1")
        _refuse_inside(arguments.output, arguments.submissions)
        reports = grade_class(arguments.submissions, request, arguments.output, arguments.jobs, arguments.format)
        graded = sum(report["exit_code"] <= ExitCode.BELOW_THRESHOLD for report in reports)
        print(f"{graded} of {len(reports)} submissions graded -> {arguments.output / 'table.html'}")
        return ExitCode.GRADED
    if arguments.output.suffix != ".json" or arguments.output.is_dir():
        raise ConfigError(f"-o {arguments.output}: expected the name of a .json file")
    if not arguments.submission.exists():
        raise ConfigError(f"--submission {arguments.submission}: no such file or folder")
    _refuse_inside(arguments.output, arguments.submission)
    report = grade(arguments.submission, arguments.submission.stem, request, arguments.output)
    if arguments.format is not None:
        formats.write(arguments.format, arguments.output.parent, [report])
    print(f"{report['status']}: {report['reason']} -> {arguments.output}")
    for finding in report["findings"]:
        print(f"  {finding['name']}: {finding['message']}")
    return formats.exit_code(arguments.format, report)


def _request(arguments: argparse.Namespace) -> Request:
    """Everything that is checked before the first submission is opened."""
    grading = grading_of(arguments.task)
    config = settings.load(arguments.config, arguments.task)
    grading.check(config)
    items = hidden.read(arguments.data, arguments.references, grading.given)
    isolated = not arguments.no_sandbox
    parent_group()
    if isolated and sandbox.problem() is not None:
        raise ConfigError(str(sandbox.problem()))
    if isolated:
        secrets = [arguments.data, arguments.output, *([arguments.references] if arguments.references else [])]
        sandbox.refuse_visible(secrets, config.interpreter or sys.executable)
    return Request(
        task=arguments.task,
        grading=grading,
        items=items,
        settings=config,
        limits=Limits.parse(arguments.limits),
        isolated=isolated,
        data_digest=hidden.digest(items),
        adjustments=_adjustments(arguments.adjustments, config),
    )


def _refuse_inside(output: Path, submission: Path) -> None:
    if submission.is_dir() and output.resolve().is_relative_to(submission.resolve()):
        raise ConfigError(f"-o {output}: lies in what was submitted; give another place")


def _adjustments(path: Path | None, config: settings.Settings) -> Mapping[str, Mapping[str, float]]:
    if path is None:
        return {}
    try:
        content: Any = from_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(f"--adjustments {path}: {error}") from None
    if not isinstance(content, dict) or not all(isinstance(given, dict) for given in content.values()):
        raise ConfigError(f'--adjustments {path}: expected {{"submission": {{"name": points}}}}')
    for name, given in content.items():
        for key, value in given.items():
            bound = config.adjustments.get(key)
            if bound is None or not isinstance(value, int | float) or not min(0, bound) <= value <= max(0, bound):
                allowed = ", ".join(f"{k} (0 to {v:g})" for k, v in config.adjustments.items()) or "none"
                raise ConfigError(f"--adjustments {path}: {name}.{key} {value!r}: the config allows {allowed}")
    return content


if __name__ == "__main__":
    sys.exit(main())
