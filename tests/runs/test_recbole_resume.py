"""``train --resume`` of RecBole's own models: they go on to the bit."""

import pytest
from support.item_worlds import OF_MODEL, ONE_LAYER, write_shop_with_kinds
from support.same_runs import assert_same_run, runs, stop_after

from recbole_metarec.errors import MetaRecError
from recbole_metarec.plugin.baseline_resume import RecBoleProgress
from recbole_metarec.quick_start import run_experiment

pytestmark = pytest.mark.usefixtures("without_pictures")


@pytest.mark.parametrize("model", ["BERT4Rec", "S3Rec", "FDSA", "SRGNN"])
def test_recboles_own_models_go_on_to_the_bit(tmp_path, monkeypatch, model):
    shop = write_shop_with_kinds(tmp_path)
    given = ONE_LAYER | {"epochs": 4, "pretrain_epochs": 1, "stopping_step": 2, "hidden_dropout_prob": 0.3}
    given |= {"data_path": str(shop), "checkpoint_dir": "saved"} | OF_MODEL.get(model, {})
    whole = run_experiment(model, "Target", overrides=given | {"checkpoint_dir": "whole"})
    with monkeypatch.context() as patch:
        stop_after(patch, 2, RecBoleProgress, "__call__")
        with pytest.raises(KeyboardInterrupt):
            run_experiment(model, "Target", overrides=given)
    (run_dir,) = runs()
    run_experiment(resume=run_dir)
    assert_same_run(whole.run_dir, run_dir)


def test_a_model_of_attributes_does_not_go_on_with_others(tmp_path, monkeypatch):
    shop = write_shop_with_kinds(tmp_path)
    given = ONE_LAYER | {"epochs": 4, "data_path": str(shop), "checkpoint_dir": "saved"} | OF_MODEL["FDSA"]
    with monkeypatch.context() as patch:
        stop_after(patch, 2, RecBoleProgress, "__call__")
        with pytest.raises(KeyboardInterrupt):
            run_experiment("FDSA", "Target", overrides=given)
    attributes = shop / "Target" / "Target.item"
    attributes.write_text(attributes.read_text().replace("k1", "k2"))
    with pytest.raises(MetaRecError, match="data have changed|data"):
        run_experiment(resume=runs()[0])
