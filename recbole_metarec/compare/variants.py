"""The variants of an ablation: each is MetaRec with some config keys changed."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from recbole_metarec.config.model_names import model_name
from recbole_metarec.config.models import DEFAULT_MODEL, WITHOUT_TRANSFER, added_models, model_spec
from recbole_metarec.config.own_models import is_reference
from recbole_metarec.config.rules import check_config
from recbole_metarec.config.schema import check_keys, default_values, key_reference, keys_in
from recbole_metarec.config.suggestions import nearest
from recbole_metarec.config.yaml_files import as_text, parse_value
from recbole_metarec.errors import ConfigError
from recbole_metarec.jobs.competitors import Competitor, competitors

FULL, NONE = "full", "none"


@dataclass(frozen=True)
class Variant:
    """One line of an ablation.

    name: as typed and shown. changes: config keys by which it differs from the full model. base: the name in the
    leaderboard of what is trained with them. meaning: for readers, one clause.
    """

    name: str
    meaning: str
    changes: dict = field(default_factory=dict)
    base: str = DEFAULT_MODEL

    @property
    def competitor(self) -> Competitor:
        """The same variant as a model of the leaderboard, which shares its runs."""
        (base,) = competitors([self.base])
        return replace(base, overrides={**base.overrides, **self.changes})

    @property
    def text(self) -> str:
        """Its changes as they would be typed."""
        return ", ".join(f"{key}={as_text(value)}" for key, value in self.changes.items())


_TABLE = (
    Variant(FULL, "MetaRec as configured"),
    Variant("no-vq", "source items are read as they are", {"vq_heads": 0}),
    Variant("one-head", "plain vector quantization", {"vq_heads": 1}),
    Variant("joint", "a weighted sum of losses instead of the meta step", {"meta_transfer": "joint"}, "Joint"),
    Variant("pretrain", "sources first, then the target", {"meta_transfer": "pretrain"}, "Pretrain"),
    Variant("uniform", "every source counts alike", {"gradient_rescaling": "uniform"}),
    Variant("similarity", "sources count by their similarity", {"gradient_rescaling": "similarity"}),
    Variant("paper-sign", "the similarity's sign as the paper prints it", {"rescale_sign": "paper"}),
    Variant("aligned-sign", "the similarity's sign by which agreement counts", {"rescale_sign": "aligned"}),
    Variant("second-order", "the outer gradient goes through the trial update exactly", {"second_order": True}),
    Variant("first-order", "the outer gradient takes the trial update as constant", {"second_order": False}),
    Variant("no-codebook-loss", "codes are not drawn to source items", {"codebook_weight": 0.0}),
    Variant("no-commitment-loss", "source items are not drawn to codes", {"commitment_weight": 0.0}),
    Variant("codebook-gradient-loss", "only the codebook loss moves codes", {"codebook_gradient": "loss"}),
    Variant("codebook-gradient-both", "the task moves codes, too", {"codebook_gradient": "both"}),
    Variant("no-memory", "scores of the encoder alone, with offsets of seen items", {"item_memory": False}),
    Variant("no-seen-offset", "the encoder's scores have no offset for seen items", {"seen_offset": False}),
    Variant("plain", "MetaRec as published: no memory, no offset", {"item_memory": False, "seen_offset": False}),
    Variant(NONE, "no transfer: LRURec", base=WITHOUT_TRANSFER),
)
VARIANTS = {variant.name: variant for variant in _TABLE}


def is_full(variant: Variant, keys: Mapping) -> bool:
    """Whether ``variant`` equals the full model, with the user's config ``keys`` over the defaults."""
    settled = {**default_values(DEFAULT_MODEL), **keys}
    return variant.base == DEFAULT_MODEL and all(settled.get(key) == value for key, value in variant.changes.items())


def chosen_variants(names: list[str] | None, keys: Mapping) -> list[Variant]:
    """The lines of an ablation: the full model first, LRURec last, in between those named or, for None, all others.

    A name may also be ``KEY=value``, or several of them joined by ``+``: a custom variant; or a class that is derived
    from MetaRec, alone or with such changes. Of the variants that ship, those that are the full model are left out
    where none was named.
    Raises ConfigError for an unknown name, one named twice, and a variant that equals the full model.
    """
    if names is None:
        between = [variant for variant in VARIANTS.values() if not is_full(variant, keys)]
    else:
        between = [VARIANTS.get(name) or _custom(name, keys) for name in names]
        for variant in between:
            if [other.name for other in between].count(variant.name) > 1:
                raise ConfigError(f"--variants: {variant.name} is given twice; name each variant once")
            if variant.name != FULL and is_full(variant, keys):
                raise ConfigError(f"--variants: {variant.name} is the full model ({variant.text}); leave it out")
    between = [variant for variant in between if variant.name not in (FULL, NONE)]
    if not between:
        raise ConfigError(f"--variants: nothing to compare; name some of {', '.join(list(VARIANTS)[1:-1])}")
    return [VARIANTS[FULL], *between, VARIANTS[NONE]]


def _custom(name: str, keys: Mapping) -> Variant:
    """A custom variant, ``KEY=value+KEY=value`` or ``my_model.py:MyMetaRec+KEY=value``."""
    changes, base = {}, DEFAULT_MODEL
    for part in name.split("+"):
        key, sign, text = part.partition("=")
        if not sign and (is_reference(part) or part in added_models()):
            base = model_name(part, "--variants")
            if model_spec(base).base != DEFAULT_MODEL:
                raise ConfigError(f"--variants: {base} is no variant of MetaRec; compare it by leaderboard --models")
            continue
        if not sign:
            guess = nearest(name, VARIANTS)
            advice = f"did you mean {guess}?" if guess else f"use some of {', '.join(VARIANTS)}, or KEY=value"
            raise ConfigError(f"--variants: unknown variant {name or '(empty)'}; {advice}")
        check_keys([key], {key: "--variants"})
        changes[key] = parse_value(text, "--variants")
    for key in changes:
        if key in keys_in("by_name") or key not in key_reference(base):
            raise ConfigError(f"--variants: {key} cannot make a variant of MetaRec; leave it out")
    check_config({**default_values(base), **keys, **changes}, dict.fromkeys(changes, "--variants"))
    shown = "+".join([base, *name.split("+")[1:]]) if base != DEFAULT_MODEL else name
    return Variant(shown, f"the class {base}" if base != DEFAULT_MODEL else "", changes, base)
