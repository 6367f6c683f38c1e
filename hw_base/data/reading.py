"""What happens in the processes that read batches, and what is known of them when one dies or hangs."""

import contextlib
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Any

import torch
from torch.multiprocessing import reductions
from torch.utils.data import Dataset, get_worker_info

from hw_base.data.collate import good_items
from hw_base.data.sampler import Key
from hw_base.data.split import Item, Split
from hw_base.errors import DataError, HwError

Batch = dict[str, Any]

# A scheduler that stops a job signals the whole process group: workers outlive the signal by this many seconds, so that
# the main process can finish its step and save.
_GRACE_SECONDS = 10
_LATER_SECONDS = 0.05
_MAX_NAMED = 8
_CAUSES: dict[int, str] = {
    signal.SIGKILL: "it was killed, as the system does when memory runs out",
    signal.SIGBUS: "shared memory is full: make /dev/shm larger",
    signal.SIGSEGV: "a library crashed",
    signal.SIGABRT: "a library aborted",
}


class WorkerError(DataError):
    """An error of the code that makes items and batches.

    Attributes:
        details: its traceback.
    """

    details = ""


class Activity:
    """What each worker is reading, in memory that all processes share.

    Args:
        n_workers: how many there are.
        longest: utterances in a batch at most.
    """

    def __init__(self, n_workers: int, longest: int) -> None:
        # Of each worker: since when, in milliseconds; the position in its batch; the batch's indices; -1 is none.
        self._table = torch.full((n_workers, 2 + longest), -1, dtype=torch.int64)
        self._table.share_memory_()  # type: ignore[no-untyped-call]

    def begin(self, indices: Sequence[int]) -> None:
        """Called by a worker: it reads these utterances from now on."""
        row = self._row()
        if row is not None:
            row[2:] = -1
            row[2 : 2 + len(indices)] = torch.tensor(indices)
            row[1] = -1
            row[0] = _milliseconds()

    def at(self, position: int) -> None:
        """Called by a worker: it reads this one of them; -1 when all are read and become a batch."""
        row = self._row()
        if row is not None:
            row[1] = position

    def end(self) -> None:
        """Called by a worker: the batch is made."""
        row = self._row()
        if row is not None:
            row[0] = -1

    def __len__(self) -> int:
        """Number of workers."""
        return len(self._table)

    def describe(self, worker: int, split: Split) -> str | None:
        """What a worker is doing, for people; None where it waits for work."""
        since, position, *indices = self._table[worker].tolist()
        if since < 0:
            return None
        names = [repr(split.records[i].utterance_id) for i in indices if 0 <= i < len(split.records)]
        if 0 <= position < len(names):
            return f"while it read utterance {names[position]}"
        more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
        return f"while it made a batch of utterances {', '.join(names[:_MAX_NAMED])}{more}"

    def busy_seconds(self, worker: int) -> float:
        """How long a worker has been at its batch; 0 where it waits for work."""
        since = int(self._table[worker, 0])
        return 0.0 if since < 0 else (_milliseconds() - since) / 1000

    def _row(self) -> torch.Tensor | None:
        info = get_worker_info()
        return None if info is None else self._table[info.id]


class BatchReader(Dataset[Any]):
    """Whole batches of a split; errors travel as batches, because DataLoader wraps what is raised in a traceback.

    Args:
        split: what is read.
        collate_fn: items, never empty and without ``"skipped"``, to a batch.
        activity: notified of what is read.
    """

    def __init__(self, split: Split, collate_fn: Callable[[Sequence[Item]], Batch], activity: Activity) -> None:
        self.split, self.collate_fn, self.activity = split, collate_fn, activity

    def __getitems__(self, keys: Sequence[Key]) -> Batch | HwError:
        """The batch of these keys, or what is wrong with it."""
        indices = [index for _, index in keys]
        self.activity.begin(indices)
        place = 0
        try:
            items: list[Item | None] = []
            for place, key in enumerate(keys):
                self.activity.at(place)
                items.append(self.split[key])
            place = -1
            self.activity.at(place)
            kept, skipped = good_items(items)
            return {**(self.collate_fn(kept) if kept else {}), "skipped": skipped}
        except HwError as error:
            # Rebuilt, because an error with arguments of its own cannot always be unpickled.
            return DataError(str(error))
        except Exception as error:
            return self._fault(error, indices if place < 0 else [indices[place]])
        finally:
            self.activity.end()

    def _fault(self, error: Exception, indices: list[int]) -> WorkerError:
        """An error of the code that makes items and batches, with the utterances and the place in the code."""
        names = [repr(self.split.records[i].utterance_id) for i in indices[:_MAX_NAMED]]
        what = f"utterance {names[0]}" if len(indices) == 1 else f"the batch of utterances {', '.join(names)}"
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame for frame in frames if "site-packages" not in frame.filename]
        frame = (own or frames)[-1]
        text = " ".join(str(error).split())
        where = f"{os.path.relpath(frame.filename)}, line {frame.lineno}, in {frame.name}"
        fault = WorkerError(f"{self.split.name}: {what}: {type(error).__name__}: {text} ({where})")
        fault.details = "".join(traceback.format_exception(error))
        return fault


def as_is(batch: Any) -> Any:
    """What DataLoader shall do with a batch that is made already."""
    return batch


def start_worker(_: int) -> None:
    """First thing in a new worker."""
    torch.set_num_threads(1)
    # Signals to the whole group are the main process's to handle; it ends the workers itself.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, lambda *_: os._exit(0))
    signal.signal(signal.SIGTERM, lambda *_: signal.setitimer(signal.ITIMER_REAL, _GRACE_SECONDS))


class DeathWatch:
    """Lets the death of a worker interrupt the wait for a batch, and nothing else.

    PyTorch's own handler raises wherever the main process is just then: within an update, or while a checkpoint is
    written. While a tensor from a worker is being opened it would leave half an object, whose end is a second error;
    and what is raised while an object ends is lost. There the signal is sent again a moment later.
    """

    def __init__(self) -> None:
        self._waiting = 0
        self._inner: Callable[[int, FrameType | None], Any] | None = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Inside, the death of a worker raises the RuntimeError of PyTorch."""
        self._waiting += 1
        try:
            yield
        finally:
            self._waiting -= 1

    def install(self) -> None:
        """Take the place of PyTorch's handler, which is there from the first start of workers on."""
        handler = signal.getsignal(signal.SIGCHLD)
        if callable(handler) and handler != self._note and threading.current_thread() is threading.main_thread():
            self._inner = handler
            signal.signal(signal.SIGCHLD, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self._waiting or self._inner is None:
            return
        if _cannot_raise(frame):
            again = threading.Timer(_LATER_SECONDS, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        else:
            self._inner(number, frame)


def _cannot_raise(frame: FrameType | None) -> bool:
    """Whether PyTorch's code that rebuilds tensors in shared memory is running, or the end of an object."""
    while frame is not None:
        if frame.f_code.co_filename == reductions.__file__ or frame.f_code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False


DEATH_WATCH = DeathWatch()


def describe_failure(workers: Sequence[Any], activity: Activity, split: Split, waited: float) -> str | None:
    """Why there is no batch: a dead or a hanging worker and what it was reading; hanging ones are ended.

    Args:
        workers: processes, in their order.
        activity: theirs.
        split: names utterances.
        waited: seconds.

    Returns:
        One line; None where all of them live and `waited` is 0.
    """
    for i, worker in enumerate(workers):
        if not worker.is_alive():
            number = -(worker.exitcode or 0)
            cause = _CAUSES.get(number, f"signal {number}" if number > 0 else f"it ended with exit code {-number}")
            doing = activity.describe(i, split) or "while it waited for work"
            return (
                f"{split.name}: worker {i} died {doing} ({cause}); mend or remove what it read, or read with fewer "
                f"workers (data.{split.name}.workers)"
            )
    if not waited:
        return None
    hangs = []
    for i, worker in enumerate(workers):
        seconds, at = activity.busy_seconds(i), activity.describe(i, split)
        if at is not None and seconds >= 0.5 * waited:
            hangs.append(f"worker {i} has hung for {seconds:.0f} s {at}")
            worker.kill()  # it might heed no other signal, and the program would wait for it at its end
    described = "; ".join(hangs) or "a worker hangs"
    return f"{split.name}: no batch within {waited:.0f} s: {described}, or the disk is too slow"


def describe_early_death(activity: Activity, split: Split, cause: str) -> str:
    """As `describe_failure`, where a worker died while PyTorch started them: which one is not known.

    Args:
        activity: of all workers.
        split: names utterances.
        cause: what PyTorch says.
    """
    busy = filter(None, (activity.describe(i, split) for i in range(len(activity))))
    doing = ", or ".join(busy) or "while it waited for work"
    return (
        f"{split.name}: a worker died {doing} ({cause}); mend or remove what it read, or read with fewer workers "
        f"(data.{split.name}.workers)"
    )


def _milliseconds() -> int:
    return time.monotonic_ns() // 1_000_000
