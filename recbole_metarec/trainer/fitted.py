"""The trainer of models that are fitted in their constructor: one epoch, which moves nothing."""

import torch
from recbole.trainer import TraditionalTrainer

from recbole_metarec.config.saved_config import config_to_json
from recbole_metarec.evaluation.ranking import rank_all
from recbole_metarec.evaluation.recbole_metrics import measured_lists, metrics_of
from recbole_metarec.trainer.checkpoint import write_checkpoint


class FittedTrainer(TraditionalTrainer):
    """RecBole's trainer of such models. Its one epoch reads no batch; its metrics come from this package's ranking."""

    def __init__(self, config, model):
        super().__init__(config, model)
        self.eval_step = 1

    def _train_epoch(self, train_data, epoch_idx, loss_func=None, show_progress=False):
        loss = self.model.calculate_loss(None)
        loss.backward()
        self.optimizer.step()  # moves no number; afterwards the optimiser's state has its usual form
        return float(loss.detach())

    def _save_checkpoint(self, epoch, verbose=True, **kwargs):
        """The config alone: the model is fitted anew from the data when it is loaded."""
        path = kwargs.pop("saved_model_file", self.saved_model_file)
        config = config_to_json(self.config, text_alignment=False)
        write_checkpoint(path, {"config": config, "epoch": epoch, "state_dict": self.model.state_dict()})

    @torch.no_grad()
    def evaluate(self, eval_data, load_best_model=True, model_file=None, show_progress=False):
        """RecBole's metrics, keys such as ``ndcg@10``. There is one model, so nothing is loaded."""
        if not eval_data:
            return None
        ranks = rank_all(self.model, eval_data, self.device, show_progress)
        result = metrics_of(ranks, self.config) | measured_lists(self, eval_data)
        self.wandblogger.log_eval_metrics(result, head="eval")
        return result
