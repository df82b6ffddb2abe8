"""Mends of RecBole 1.2.1 in what it does with checkpoints, which are pickles. See :mod:`.mends`.

``tests/plugin/test_checkpoint_mends.py`` and ``test_flows.py`` test these.
"""

import functools
import io
from pathlib import Path

from recbole_metarec.files import write_atomically
from recbole_metarec.plugin.mends import mend
from recbole_metarec.plugin.on_import import after
from recbole_metarec.plugin.recbole_checkpoint import load_recbole_checkpoint, note_written, trusted_pickles


@mend(after, "recbole.trainer.trainer")
def trainer_checkpoints(trainer) -> None:
    """Let RecBole's Trainer read back the checkpoint that this user wrote, and no other pickle unasked.

    RecBole pickles its Config into each checkpoint and reads it by a bare ``torch.load``. Since PyTorch 2.6 that
    refuses it, so that no run gets to its test result (RecBole #2215, open); before 2.6 it runs any code that a
    foreign file holds. It also writes over the last good file, which a kill or a full disk then leaves in pieces: here
    the new file is written beside it. ``torch.load`` itself stays as it is. Trainers that override these methods are
    not touched.
    Can go when RecBole saves plain tensors and values.
    """
    Trainer = trainer.Trainer
    if getattr(Trainer.evaluate, "mended", False):
        return
    save, evaluate, resume = Trainer._save_checkpoint, Trainer.evaluate, Trainer.resume_checkpoint

    @functools.wraps(save)
    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        if not (self.config["single_spec"] or self.config["local_rank"] == 0):
            return
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        packed = io.BytesIO()
        save(self, epoch, verbose=False, saved_model_file=packed, **kwargs)
        write_atomically(Path(path), [packed.getbuffer()], "free some space, or choose another checkpoint_dir")
        note_written(path)
        if verbose:
            self.logger.info(f"Saving current: {path}")

    @functools.wraps(evaluate)
    def evaluate_mended(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        if eval_data and load_best_model:
            path = model_file or self.saved_model_file
            checkpoint = load_recbole_checkpoint(path, self.device, self.config["trust_pickle"])
            self.model.load_state_dict(checkpoint["state_dict"])
            self.model.load_other_parameter(checkpoint.get("other_parameter"))
            self.logger.info(f"Loading model structure and parameters from {path}")
        return evaluate(self, eval_data, load_best_model=False, model_file=model_file, show_progress=show_progress)

    @functools.wraps(resume)
    def resume_checkpoint(self, resume_file):
        load_recbole_checkpoint(resume_file, "cpu", self.config["trust_pickle"])
        with trusted_pickles():
            return resume(self, resume_file)

    evaluate_mended.mended = True
    Trainer._save_checkpoint, Trainer.evaluate, Trainer.resume_checkpoint = (
        _save_checkpoint,
        evaluate_mended,
        resume_checkpoint,
    )


@mend(after, "recbole.trainer.trainer")
def pretrained_files_are_noted(trainer) -> None:
    """Remember the files that RecBole's two-stage trainers write after their first stage, for the second to read.

    Can go with :func:`pretrained_files_are_read`.
    """
    save = trainer.PretrainTrainer.save_pretrained_model

    @functools.wraps(save)
    def save_pretrained_model(self, epoch, saved_model_file):
        save(self, epoch, saved_model_file)
        note_written(saved_model_file)

    trainer.PretrainTrainer.save_pretrained_model = save_pretrained_model


# a model that reads files in its constructor, and the config keys that name them
_READERS = {
    "general_recommender.ract": ("RaCT", "pre_model_path"),
    "general_recommender.neumf": ("NeuMF", "mf_pretrain_path", "mlp_pretrain_path"),
    "general_recommender.convncf": ("ConvNCF", "pre_model_path"),
    "general_recommender.nais": ("NAIS", "pretrain_path"),
    "context_aware_recommender.kd_dagfm": ("KD_DAGFM", "warm_up"),
    "sequential_recommender.s3rec": ("S3Rec", "pre_model_path"),  # last: whether it is mended is what doctor tells
}


def pretrained_files_are_read(module) -> None:
    """Let models that read a trained file in their constructor read one that this user wrote, or was told to trust.

    S3Rec, RaCT, NeuMF, ConvNCF, NAIS and KD_DAGFM call ``torch.load`` themselves, which refuses RecBole's pickles since
    PyTorch 2.6; before 2.6 it runs any code that a foreign file holds. Can go when RecBole saves plain tensors and
    values.
    """
    name, *keys = _READERS[module.__name__.removeprefix("recbole.model.")]
    model = getattr(module, name)
    original = model.__init__

    @functools.wraps(original)
    def __init__(self, config, dataset):
        files = [config[key] for key in keys if config[key] and Path(config[key]).is_file()]
        for file in files:
            load_recbole_checkpoint(file, "cpu", config["trust_pickle"])  # raises unless it may be read
        with trusted_pickles():
            original(self, config, dataset)

    model.__init__ = __init__


for _reader in _READERS:
    mend(after, f"recbole.model.{_reader}")(pretrained_files_are_read)
