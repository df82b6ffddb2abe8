"""Writes the README's tables of config keys from the comments in properties/. Run: python docs/make_reference.py"""

from pathlib import Path

from recbole_metarec.config.models import SHIPPED_SPECS
from recbole_metarec.config.schema import Key, key_reference

README = Path(__file__).resolve().parent.parent / "README.md"
START, END = "<!-- keys -->", "<!-- end of keys -->"


def tables() -> str:
    """The keys of the protocol, of LRURec and MetaRec, of MetaRec alone, of UniSRec, and of each fitted baseline that
    has some, in the order of their files."""
    overall = {name: key for name, key in key_reference("MetaRec").items() if "overall" in key.file}
    shared = key_reference("LRURec").keys() - overall.keys()
    parts = {
        "Data, training and evaluation": overall.values(),
        "LRURec and MetaRec": [key for name, key in key_reference("LRURec").items() if name in shared],
        "MetaRec": [key for name, key in key_reference("MetaRec").items() if name not in shared | overall.keys()],
        "UniSRec": [key for name, key in key_reference("UniSRec").items() if name not in overall],
    }
    for model in (spec.name for spec in SHIPPED_SPECS if spec.is_fitted):
        if own := [key for name, key in key_reference(model).items() if name not in overall]:
            parts[model] = own
    head = "| key | default | type and range | meaning |\n|---|---|---|---|"
    return "\n\n".join("\n".join([f"**{title}**\n", head, *map(_row, keys)]) for title, keys in parts.items())


def _row(key: Key) -> str:
    default = "" if key.default is None else f"`{key.default}`"
    return f"| `{key.name}` | {default} | {', '.join(filter(None, (key.kind, key.rule)))} | {key.sentence} |"


def main() -> None:
    """Replaces what stands between the two marks."""
    text = README.read_text(encoding="utf-8")
    before, rest = text.split(START, 1)
    after = rest.split(END, 1)[-1]
    README.write_text(f"{before}{START}\n{tables()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
