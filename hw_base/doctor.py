# PYTHON_ARGCOMPLETE_OK
"""``python -m hw_base.doctor -c CONFIG``: examine data, config and model before training."""

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from hw_base import distributed, trained
from hw_base.config.resolve import read, resolve
from hw_base.errors import ConfigError
from hw_base.examinations import page
from hw_base.examinations.examine import examine
from hw_base.runs import cli
from hw_base.runs.experiment import Experiment
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a finding is an error, 2 where what was given is wrong."""
    parser = Parser(
        "python -m hw_base.doctor",
        "Examine data, config and model before training.",
        ["-c configs/tiny/conformer.json --html doctor.html"],
    )
    parser.add_argument("-c", "--config", metavar="FILE", help="JSON or YAML config")
    parser.add_argument("-r", "--resume", metavar="CKPT", help="a checkpoint instead of random weights")
    parser.add_argument("-d", "--device", default="cpu", help=distributed.DEVICES)
    cli.add_import(parser)
    cli.add_set(parser)
    parser.add_argument("--recognizer", metavar="CKPT", help="spot check of transcripts by what this recognizer hears")
    parser.add_argument("--html", metavar="FILE", help="also write a page with pictures")
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    arguments = parser.parse_args(argv)

    def work() -> int:
        if arguments.config is None and arguments.resume is None:
            raise ConfigError("nothing to examine: give a config with -c, or a checkpoint with -r")
        state = trained.read(arguments.resume) if arguments.resume else None
        given = read(arguments.config) if arguments.config else {}
        if state is None:
            config = resolve(given, arguments.set)
        else:
            config = trained.config_of(state["config"], arguments.resume, trained.Given(given, arguments.set))
        device = distributed.start(arguments.device)
        logging.getLogger("hw_base").setLevel(logging.WARNING)
        findings = []
        experiment = Experiment(config, device, state, arguments.resume or "checkpoint")
        recognizer = trained.load_recognizer(arguments.recognizer, device) if arguments.recognizer else None
        for finding in examine(lambda: experiment.trainer(None, schedules=False), experiment.task, recognizer):
            findings.append(finding)
            if not arguments.json:
                print("\n".join(finding.lines()), flush=True)
        counts = {level: sum(f.level == level for f in findings) for level in ("ok", "warning", "error")}
        summary = f"{config.name}: {counts['ok']} ok, {counts['warning']} warnings, {counts['error']} errors"
        plain = [{k: v for k, v in asdict(f).items() if k != "picture"} for f in findings]
        print(json.dumps({"summary": summary, "findings": plain}, indent=2) if arguments.json else summary)
        if arguments.html:
            page.write(Path(arguments.html), f"Before training: {config.name}", summary, findings)
        return int(counts["error"] > 0)

    return cli.run(work, arguments.imports)


if __name__ == "__main__":
    sys.exit(main())
