"""What keeps a run: `last.ckpt`, whole at any moment, and what happens at the first step."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType

import lightning as L
import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins import TorchCheckpointIO
from torch import Tensor

from course_utils.files import written_whole


class KeepLast(Checkpoint):
    """Keeps `last.ckpt`: as it was before the first step, and again after every epoch.

    From the end of the first step on, whenever a run is killed, there is a whole file to go on
    from; a file that was there before is not touched until then. What an epoch logs stands in the
    log before its checkpoint takes the place of the one before. The file also holds the state of
    the random generators, so that a run that resumes makes the same steps as one never interrupted.
    """

    def __init__(self, path: Path):
        self.path = path
        self._random: dict[str, Tensor] = {}
        self._waiting = ExitStack()  # a checkpoint beside `path` that has not taken its name yet
        self._stepped = True

    def state_dict(self) -> dict[str, Tensor]:
        """Return the states of the random generators: CPU, and those of GPUs that are there."""
        return {name: holder.get_rng_state() for name, holder in _generators().items()}

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Keep the states until training starts: nothing can draw between there and its steps."""
        self._random = state_dict

    def on_train_start(self, trainer, pl_module):
        """Set the generators of a resumed run, or keep the start of a new one."""
        for name, holder in _generators().items():
            if name in self._random:
                holder.set_rng_state(self._random[name].cpu())
        if trainer.current_epoch == 0:
            self._stepped = False
            self._write(trainer)

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Let the start take the file's name: a step is done."""
        self._stepped = True
        self._waiting.close()

    def on_train_epoch_end(self, trainer, pl_module):
        """Keep the run as it is after this epoch, whose numbers are logged only now."""
        self._write(trainer)

    def on_train_epoch_start(self, trainer, pl_module):
        """Let the epoch before take the file's name: its numbers are logged."""
        if self._stepped:
            self._waiting.close()

    def on_train_end(self, trainer, pl_module):
        """Let the last epoch take the file's name."""
        self._waiting.close()

    def on_exception(self, trainer, pl_module, exception):
        """Leave the file as it is: the one beside it goes."""
        self._waiting.__exit__(type(exception), exception, None)

    def _write(self, trainer) -> None:
        part = self._waiting.enter_context(written_whole(self.path))
        trainer.save_checkpoint(part)


class WholeCheckpoints(TorchCheckpointIO):
    """Writes every checkpoint, `best.ckpt` too, so that its file is whole at any moment.

    Lightning's own goes through the folder for temporary files. Where that lies on another disk,
    it is copied over the old file, and a kill leaves neither.
    """

    def save_checkpoint(self, checkpoint, path, storage_options=None) -> None:
        """Write a checkpoint beside `path`, and move it there once it is on the disk."""
        with written_whole(Path(path)) as part:
            torch.save(checkpoint, part)


class AtFirstStep(L.Callback):
    """Calls a function once, with the Trainer, when the first step is done."""

    def __init__(self, function: Callable[[L.Trainer], None]):
        self.function, self.done = function, False

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        """Call it, if this is the first step."""
        self.call(trainer)

    def call(self, trainer: L.Trainer) -> None:
        """Call the function, unless that was done."""
        if not self.done:
            self.function(trainer)
            self.done = True


def _generators() -> dict[str, ModuleType]:
    """Return the modules that hold the random generators of the devices here."""
    found = {"cpu": torch}
    if torch.cuda.is_available():
        found["cuda"] = torch.cuda
    if torch.backends.mps.is_available():
        found["mps"] = torch.mps
    return found
