"""Weights & Biases: offline unless asked otherwise, without an account, a network or a question."""

import html
import importlib.util
import logging
import os
import shlex
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import WRITERS
from hw_base.writers.base import Cell, Writer, without_home
from hw_base.writers.media import wav_bytes

log = logging.getLogger(__name__)

_FLUSH_SECONDS = 1.0  # what a killed process may lose


@WRITERS.register()
class WandbWriter(Writer):
    """A run of Weights & Biases.

    Offline, each process that works on the run leaves one folder, ``wandb/offline-run-...`` in the run folder, all with
    the same run id; ``wandb sync`` joins them. The curves are drawn over the value ``step``, so that steps reported
    twice around a resume do no harm.

    Args:
        run_dir: the run folder.
        run_name: name of the run.
        config: logged as the run's config; paths below the home folder are shortened to ``~``.
        project: project on wandb.ai.
        workspace: user or team on wandb.ai; None is the user's own.
        mode: ``offline``, or ``online``, which needs a key (``WANDB_API_KEY`` or ``wandb login``).
        send_environment: also send source code, git state, packages, host name and hardware.

    Raises:
        MissingPackageError: wandb is not installed.
        ConfigError: online without a key.
    """

    def __init__(
        self,
        run_dir: Path,
        run_name: str,
        config: Mapping[str, Any],
        project: str = "speech",
        workspace: str | None = None,
        mode: Literal["offline", "online"] = "offline",
        send_environment: bool = False,
    ) -> None:
        self._wandb = _import_wandb(self.name)
        if mode == "online" and not self._wandb.api.api_key:
            raise ConfigError(
                f"{self.name}: mode 'online' needs a key: set WANDB_API_KEY, or use mode 'offline' and sync later"
            )
        self.run_dir, self.run_name, self.config = run_dir, run_name, config
        self.project, self.workspace = project, workspace
        self.mode, self.send_environment = mode, send_environment
        self._id = uuid.uuid4().hex[:16]
        self._run: Any = None
        self._has_pillow = importlib.util.find_spec("PIL") is not None
        if not self._has_pillow:
            log.warning("%s leaves out all pictures, for want of a package: pip install Pillow", self.name)

    def _started(self) -> Any:
        if self._run is None:
            self.run_dir.mkdir(parents=True, exist_ok=True)
            # Tables wait for their upload here; the default, in the home folder, is lost with the machine.
            os.environ.setdefault("WANDB_DATA_DIR", str((self.run_dir / "wandb" / "data").absolute()))
            self._run = self._wandb.init(
                project=self.project,
                entity=self.workspace,
                name=self.run_name,
                id=self._id,
                resume="allow",
                mode=self.mode,
                dir=str(self.run_dir),
                config=without_home(self.config),
                settings=self._settings(),
            )
            self._run.define_metric("step")
            self._run.define_metric("*", step_metric="step")
            (self.run_dir / "wandb" / "upload.txt").write_text(
                f"Send this run to wandb.ai:\n\n    {self.upload_command}\n", encoding="utf-8"
            )
        return self._run

    def _settings(self) -> Any:
        quiet = {"silent": True, "console": "off", "x_transaction_log_flush_interval": _FLUSH_SECONDS}
        if self.send_environment:
            return self._wandb.Settings(**quiet, save_code=True)
        nothing = dict.fromkeys(("host", "username", "program", "x_executable"), "")
        collectors = ("x_disable_meta", "x_disable_machine_info", "x_disable_stats", "disable_git", "disable_code")
        return self._wandb.Settings(
            **quiet, **nothing, **dict.fromkeys(collectors, True), x_save_requirements=False, save_code=False
        )

    @property
    def upload_command(self) -> str:
        """The one command that sends an offline run."""
        return f"wandb sync {shlex.quote(str((self.run_dir / 'wandb').absolute()))}/offline-run-*"

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Values under their full names, over ``step``."""
        self._started().log({**values, "step": step})

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """A WAV file with its caption."""
        run = self._started()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "sound.wav")
            path.write_bytes(wav_bytes(waveform, sample_rate))
            run.log({name: self._wandb.Audio(str(path), caption=caption or None), "step": step})

    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """A PNG file with its caption."""
        if self._has_pillow:
            self._started().log({name: self._wandb.Image(image, caption=caption or None), "step": step})

    def text(self, name: str, text: str, step: int) -> None:
        """A page with the text as it is."""
        page = self._wandb.Html(f"<pre>{html.escape(text)}</pre>")
        self._started().log({name: page, "step": step})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """A table for each step."""
        table = self._wandb.Table(columns=list(columns), data=[list(row) for row in rows], allow_mixed_types=True)
        self._started().log({name: table, "step": step})

    def state_dict(self) -> dict[str, Any]:
        """The run's id."""
        return {"id": self._id}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue the same run."""
        if state:
            self._id = state["id"]

    def close(self) -> None:
        """Finish the run and say how to upload it."""
        if self._run is None:
            return
        run, self._run = self._run, None
        run.finish()
        if self.mode == "offline":
            log.info("to send this run to wandb.ai: %s", self.upload_command)


def _import_wandb(component: str) -> Any:
    """Import the package without its error reports."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
    except ImportError as error:
        raise MissingPackageError(component, "wandb") from error
    return wandb
