"""A planted world in which the right answer is known: one source shares the target's structure, the other is noise.

Items fall into clusters, and a next item is mostly of the cluster after the last one's. Target and Related do so, each
with items and users of its own; in Unrelated every next item is drawn evenly.
"""

from statistics import mean

import pytest
from support.worlds import Run, cluster_histories, write_domain

from recbole_metarec.prepare.simulated_domains import Plan, Planned, write_simulated
from recbole_metarec.prepare.simulation import Size, World

SIZES = {"embedding_size": 16, "n_layers": 1, "train_batch_size": 256, "dropout_prob": 0.2, "learning_rate": 0.005,
         "stopping_step": 100, "epochs": 10}  # fmt: skip
SEEDS = (1, 2, 3)
LATE = 3  # the last epochs, where training has settled


def trained(folder, seed: int, **given) -> Run:
    place = folder / str(seed)
    for number, (name, follow) in enumerate((("Target", 0.85), ("Related", 0.85), ("Unrelated", 0.0))):
        write_domain(place, name, cluster_histories(10 * seed + number, 200, 48, 6, follow))
    return Run(place, seed=seed, sources=["Related", "Unrelated"], **SIZES, **given).fit(saved=False)


def late(run: Run, quantity: str) -> list[float]:
    """Mean over the last epochs: of Related, of Unrelated."""
    return [mean(row[quantity] for row in run.source_rows(name)[-LATE:]) for name in ("Related", "Unrelated")]


@pytest.mark.parametrize("sign", ["aligned", "paper"])
def test_the_aligned_sign_favours_the_related_source_and_the_papers_the_other(tmp_path, sign):
    """At the default step size and temperature, after training, in every seed."""
    weights, similarities, early = [], [], []
    for seed in SEEDS:
        run = trained(tmp_path, seed, rescale_sign=sign)
        weights.append(late(run, "weight"))
        similarities.append(late(run, "similarity_theta"))
        early.append([run.source_rows(name)[0]["similarity_theta"] for name in ("Related", "Unrelated")])
    for related, unrelated in weights:
        assert related + unrelated == pytest.approx(1.0, abs=1e-5)
        assert (related > 0.7) if sign == "aligned" else (related < 0.3)
    # what is measured is the same under either sign, and holds from the first to the last epochs
    for related, unrelated in similarities:
        assert related > unrelated + 0.05 and related > 0.1
    assert mean(related - unrelated for related, unrelated in early) > 0.0


def test_sources_are_ranked_by_the_relatedness_that_was_planted(tmp_path):
    """Equal in size, entropy, popularity and in the best possible ranking: only their transitions differ."""
    size = Size(users=300, items=100, mean_length=7.0)
    planted = {"sim-near": 1.0, "sim-half": 0.5, "sim-far": 0.0}
    sources = tuple(Planned(name, size, relatedness) for name, relatedness in planted.items())
    write_simulated(tmp_path, Plan(World(clusters=10, seed=1), Planned("sim-target", size), sources))
    run = Run(tmp_path, dataset="sim-target", seed=1, **SIZES).fit(saved=False)
    near, half, far = (mean(row["weight"] for row in run.source_rows(name)[-LATE:]) for name in planted)
    assert near > half + 0.1 and half > far + 0.1
