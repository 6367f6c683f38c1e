# PYTHON_ARGCOMPLETE_OK
"""Try checkpoints in a browser: ``python -m hw_base.demo -r CKPT [CKPT ...]``; the page is for this machine alone."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hw_base import distributed, task_packages, trained
from hw_base.demos.contract import Limits, TaskDemo, demo_of
from hw_base.errors import ConfigError, MissingPackageError
from hw_base.runs import cli
from hw_base.runs.folder import best_checkpoint
from hw_base.runs.parser import Parser


def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = Parser("python -m hw_base.demo", "Try checkpoints in a browser.", ["-r runs/a runs/b"])
    parser.add_argument(
        "-r", "--resume", nargs="+", required=True, metavar="CKPT", help="checkpoints or run folders, side by side"
    )
    parser.add_argument("-d", "--device", default="auto", help=distributed.DEVICES)
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 opens it to other machines (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, help="default: the first free one from 7860 on")
    parser.add_argument("--max-seconds", type=cli.positive(float), default=60.0, help="of a recording (default: 60)")
    parser.add_argument("--max-characters", type=cli.positive(int), default=500, help="of a text (default: 500)")
    parser.add_argument("--max-megabytes", type=cli.positive(int), default=20, help="of a file (default: 20)")
    cli.add_import(parser)
    arguments = parser.parse_args(argv)

    def work() -> int:
        page = build(arguments.resume, arguments.device, Limits(arguments.max_seconds, arguments.max_characters))
        launch(page, arguments.host, arguments.port, arguments.max_megabytes, block=True)
        return 0

    return cli.run(work, arguments.imports)


def build(checkpoints: Sequence[str], device: str, limits: Limits) -> Any:
    """The page, not yet served.

    Args:
        checkpoints: files, run folders or addresses, side by side.
        device: where they compute.
        limits: of what a visitor may ask for.

    Raises:
        MissingPackageError: gradio is not installed.
        CheckpointError: a checkpoint that cannot be used.
        ConfigError: the checkpoint of a task that has no demo.
    """
    demos: dict[TaskDemo, list[Path]] = {}
    for path in map(best_checkpoint, checkpoints):
        task = trained.read(path)["config"].get("task")
        task_packages.import_task(task)
        demos.setdefault(demo_of(task), []).append(path)
    gradio = _gradio()
    with gradio.Blocks(title="Speech", analytics_enabled=False, fill_width=len(checkpoints) > 1) as page, gradio.Row():
        for demo, paths in demos.items():
            with gradio.Column(min_width=320):
                demo.build(paths, device, limits)
    return page


def launch(page: Any, host: str, port: int | None, megabytes: int, block: bool) -> str:
    """Serve the page; its address.

    Args:
        page: of `build`.
        host: address to listen at.
        port: None is the first free one.
        megabytes: the largest file that is accepted.
        block: whether to wait until Ctrl-C.

    Raises:
        ConfigError: the port is taken.
    """
    # Fonts of the system: those of the default theme are loaded from the internet.
    theme = _gradio().themes.Default(font=["system-ui", "sans-serif"], font_mono=["monospace"])
    try:
        _, address, _ = page.launch(
            server_name=host,
            server_port=port,
            max_file_size=megabytes * 1_000_000,
            share=False,
            ssr_mode=False,
            theme=theme,
            footer_links=[],
            prevent_thread_lock=not block,
        )
    except OSError as error:
        raise ConfigError(f"--host {host} --port {port}: {error}") from None
    return str(address)


def _gradio() -> Any:
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise MissingPackageError("hw_base.demo", "gradio") from error
    return gradio


if __name__ == "__main__":
    sys.exit(main())
