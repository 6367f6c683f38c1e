"""Where a run's numbers, sounds, pictures and tables go: the record, always, and the trackers that the config names."""

from hw_base.writers.base import Writer
from hw_base.writers.comet import CometWriter
from hw_base.writers.jsonl import JsonlWriter, read_rows
from hw_base.writers.multi import MultiWriter
from hw_base.writers.tensorboard import TensorBoardWriter
from hw_base.writers.wandb import WandbWriter

__all__ = ["CometWriter", "JsonlWriter", "MultiWriter", "TensorBoardWriter", "WandbWriter", "Writer", "read_rows"]
