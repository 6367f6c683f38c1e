"""Comet: offline unless asked otherwise, without an account, a network or a question."""

import logging
import os
import shlex
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_base.errors import ConfigError, MissingPackageError
from hw_base.registry import WRITERS
from hw_base.writers.base import Cell, Writer, without_home
from hw_base.writers.media import png_bytes, wav_bytes

log = logging.getLogger(__name__)

_ENVIRONMENT = (
    "code",
    "env_details",
    "env_gpu",
    "env_host",
    "env_cpu",
    "env_network",
    "env_disk",
    "git_metadata",
    "git_patch",
)
_AUTOMATIC = ("log_graph", "auto_param_logging", "auto_metric_logging", "parse_args", "auto_output_logging")


@WRITERS.register()
class CometWriter(Writer):
    """An experiment of Comet.

    Offline, each process that works on the run leaves one archive, ``comet/000.zip`` and so on in the run folder, all
    of the same experiment. Comet makes it at the end, so a killed process leaves none: then ``python -m hw_base.upload
    RUN_DIR --to comet`` sends the whole run from its record.

    Args:
        run_dir: the run folder.
        run_name: name of the experiment.
        config: logged as hyperparameters; paths below the home folder are shortened to ``~``.
        project: project on comet.com.
        workspace: workspace on comet.com; None is the user's own.
        mode: ``offline``, or ``online``, which needs a key (``COMET_API_KEY`` or ``comet login``).
        send_environment: also send source code, git patch, packages, host name and hardware.

    Raises:
        MissingPackageError: comet_ml is not installed.
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
        self._comet = _import_comet(self.name)
        if mode == "online" and not self._comet.get_config("comet.api_key"):
            raise ConfigError(
                f"{self.name}: mode 'online' needs a key: set COMET_API_KEY, or use mode 'offline' and upload later"
            )
        self.folder = run_dir / "comet"
        self.run_name, self.config = run_name, config
        self.project, self.workspace = project, workspace
        self.online, self.send_environment = mode == "online", send_environment
        self._key, self._resumed = uuid.uuid4().hex, False
        self._fragment: Path | None = None
        self._experiment: Any = None

    def _started(self) -> Any:
        if self._experiment is None:
            self._fragment = self._new_fragment()
            self._experiment = self._comet.start(
                project_name=self.project,
                workspace=self.workspace,
                experiment_key=self._key,
                online=self.online,
                mode="get_or_create" if self._resumed else "create",
                experiment_config=self._settings(),
            )
            self._write_instructions()
            shown = without_home(self.config)
            about = shown.pop("about", "")  # a parameter of more than 2,000 characters is cut with a warning
            self._experiment.log_parameters(shown)  # again after a resume: the process before may have been killed
            if about and not self._resumed:
                text = about if isinstance(about, str) else "\n".join(about)
                self._experiment.log_text(text, metadata={"name": "about"})
        return self._experiment

    def _new_fragment(self) -> Path:
        """The folder in which this process's archive grows; what a killed process left is of no use and goes."""
        taken = [path for path in self.folder.glob("*") if path.stem.isdigit()]
        for folder in filter(Path.is_dir, taken):
            log.warning("an earlier process was killed before Comet made its archive: %s", self._send_everything)
            shutil.rmtree(folder)
        fragment = self.folder / f"{max((int(path.stem) for path in taken), default=-1) + 1:03d}"
        fragment.mkdir(parents=True)
        return fragment

    @property
    def _send_everything(self) -> str:
        run_dir = shlex.quote(str(self.folder.parent.absolute()))
        return f"python -m hw_base.upload {run_dir} --to comet"

    def _settings(self) -> Any:
        switches: dict[str, bool] = dict.fromkeys(_AUTOMATIC, False)
        switches |= {f"log_{what}": self.send_environment for what in _ENVIRONMENT}
        directory = str(self._fragment)
        return self._comet.ExperimentConfig(
            name=self.run_name, offline_directory=directory, display_summary_level=0, **switches
        )

    @property
    def upload_command(self) -> str:
        """The one command that sends an offline run."""
        return f"comet upload {shlex.quote(str(self.folder.absolute()))}/*.zip"

    def _write_instructions(self) -> None:
        (self.folder / "upload.txt").write_text(
            f"Send this run to comet.com:\n\n    {self.upload_command}\n\n"
            f"If it was killed, instead:\n\n    {self._send_everything}\n",
            encoding="utf-8",
        )

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Metrics under their full names."""
        self._started().log_metrics(dict(values), step=step)

    def audio(self, name: str, waveform: Tensor, sample_rate: int, step: int, caption: str = "") -> None:
        """As a file: Comet would change the level of raw samples."""
        experiment = self._started()
        with tempfile.NamedTemporaryFile(dir=self._fragment, suffix=".wav", delete=False) as file:
            file.write(wav_bytes(waveform, sample_rate))
        sound = Path(file.name)  # removed with the fragment
        experiment.log_audio(str(sound), file_name=f"{name}.wav", step=step, metadata=_about(caption))

    def image(self, name: str, image: NDArray[np.uint8], step: int, caption: str = "") -> None:
        """As a file: without Pillow, Comet would drop an array and say so nowhere but in its log."""
        self._started().log_image(BytesIO(png_bytes(image)), name=name, step=step, metadata=_about(caption))

    def text(self, name: str, text: str, step: int) -> None:
        """With its name as metadata."""
        self._started().log_text(text, step=step, metadata={"name": name})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]], step: int) -> None:
        """A CSV file for each step."""
        self._started().log_table(f"{name}-{step:08d}.csv", [list(row) for row in rows], headers=list(columns))

    def state_dict(self) -> dict[str, Any]:
        """The experiment's key."""
        return {"key": self._key}

    def load_state_dict(self, state: Mapping[str, Any], step: int) -> None:
        """Continue the same experiment."""
        if state:
            self._key, self._resumed = state["key"], True

    def close(self) -> None:
        """Finish the archive and say how to upload it."""
        if self._experiment is None or self._fragment is None:
            return
        experiment, self._experiment = self._experiment, None
        try:
            experiment.end()
        finally:
            archives = list(self._fragment.glob("*.zip"))
            if archives:
                os.replace(archives[0], self._fragment.with_suffix(".zip"))
            shutil.rmtree(self._fragment)
        if archives:
            log.info("to send this run to comet.com: %s", self.upload_command)
        self._resumed = True  # whatever is reported later belongs to the same experiment


def _about(caption: str) -> dict[str, str] | None:
    return {"caption": caption} if caption else None


def _import_comet(component: str) -> Any:
    """Import the package without its error reports and without its patches of other packages."""
    os.environ.setdefault("COMET_DISABLE_AUTO_LOGGING", "1")
    os.environ.setdefault("COMET_ERROR_TRACKING_ENABLE", "false")
    try:
        import comet_ml
    except ImportError as error:
        raise MissingPackageError(component, "comet-ml") from error
    logging.getLogger("comet_ml").setLevel(logging.WARNING)
    return comet_ml
