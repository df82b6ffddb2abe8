"""Mutation run: which small faults, put into the numeric core one at a time, do the tests not see?

    pip install cosmic-ray
    python tests/mutate.py                              # every module below, about half an hour
    python tests/mutate.py quantizer ranking --sample 50

Mutations are Cosmic Ray's, of each operator its nearest relatives alone (- for +, but not << for +, which any test
sees), and one of our own: a call, an assignment to an attribute or element, or a keyword argument is left out. What a
run costs is importing torch and RecBole, so both are imported once, and every mutant is a fork of that process which
imports this package anew. No file is changed. ``mutation_equivalents.yaml`` says which mutants no test can tell, and
why. Prints the survivors; the exit code is 1 where there are any.
"""

import argparse
import ast
import contextlib
import difflib
import gc
import importlib
import importlib.machinery
import importlib.util
import multiprocessing
import os
import random
import re
import resource
import sys
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from cosmic_ray import plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code

TESTS, ROOT = Path(__file__).resolve().parent, Path(__file__).resolve().parents[1]
FINITE = "trainer/test_finite.py::test_"
TARGETS = {  # the module -> the tests that are about it
    "model/quantizer": ["model/test_quantizer.py"],
    "trainer/meta_step": ["trainer/test_meta_step.py", f"{FINITE}weights_sum_to_one_at_every_temperature"],
    "trainer/step": [
        "trainer/test_step.py",
        f"{FINITE}a_gradient_that_is_not_finite_never_reaches_theta_in_joint_training",
    ],
    "trainer/transfer_step": ["trainer/test_step.py", "trainer/test_shares.py"],
    "trainer/transfer_state": ["trainer/test_step.py"],
    "trainer/weighting": ["trainer/test_step.py"],
    "trainer/shares": ["trainer/test_shares.py"],
    "model/lru": [
        "model/test_lru.py",
        f"{FINITE}eigenvalues_and_their_gradient_are_finite_wherever_the_parameters_are",
    ],
    "model/losses": ["model/test_losses.py", "model/test_item_memory.py"],
    "model/item_memory": ["model/test_item_memory.py"],
    "model/seen_offset": ["model/test_item_memory.py"],
    "data/pair_counts": ["data/test_pair_counts.py"],
    "trainer/lessons": ["trainer/test_memory_training.py"],
    "evaluation/ranking": ["evaluation/test_ranking.py"],
    "evaluation/recbole_metrics": ["evaluation/test_ranking.py"],
    "evaluation/significance": ["evaluation/test_significance.py"],
}
GUARDS = {"strict", "frozen", "device"}  # keywords against later mistakes, and for a second device
OPERATORS = re.compile(
    "core/(NumberReplacer|AddNot|ZeroIterationForLoop|RemoveDecorator|ReplaceUnaryOperator_Delete_.*"
    "|Replace(TrueWithFalse|FalseWithTrue|AndWithOr|OrWithAnd)|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul"
    "|FloorDiv_Mul|Mod_Mul|Pow_Mul|LShift_RShift|BitOr_BitAnd|BitAnd_BitOr)|ReplaceComparisonOperator_(Eq_NotEq"
    "|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is))"
)
MEMORY = 8 << 30  # bytes of address space, most of which torch's libraries take


class Mutant(NamedTuple):
    """One changed module: the line, what stood and what stands there (``before => after``), and the whole text."""

    line: int
    change: str
    text: str


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module that is another program; annotations and guards are left as they are."""
    tree, lines, found = ast.parse(source), source.splitlines(), {}
    nodes = list(ast.walk(tree))
    spared = [node for node in nodes if isinstance(node, ast.keyword) and node.arg in GUARDS]
    spared += [part for node in nodes for name in ("annotation", "returns") if (part := getattr(node, name, None))]
    spans = [((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)) for part in spared]
    for text in (*_of_cosmic_ray(source, spans), *_left_out(source, [node for node in nodes if node not in spared])):
        with contextlib.suppress(SyntaxError):
            found.setdefault(ast.dump(ast.parse(text)), text)
    found.pop(ast.dump(tree), None)
    made = []
    for text in found.values():
        pieces = difflib.SequenceMatcher(None, lines, text.splitlines(), autojunk=False).get_opcodes()
        _, start, end, new_start, new_end = next(piece for piece in pieces if piece[0] != "equal")
        parts = lines[start:end], text.splitlines()[new_start:new_end]
        before, after = (" ".join(line.split("  # ")[0].strip() for line in part).strip() for part in parts)
        made.append(Mutant(start + 1, f"{before} => {after}", text))
    return sorted(made)


def _of_cosmic_ray(source: str, spared):
    for name in filter(OPERATORS.fullmatch, plugins.operator_names()):
        operator, places = plugins.get_operator(name)(), []

        class Places(Visitor):
            def visit(self, node, operator=operator, places=places):
                places.extend(start for start, _ in operator.mutation_positions(node))
                return node

        Places().walk(get_ast(source))
        for occurrence, place in enumerate(places):
            if not any(start <= place < end for start, end in spared):
                yield mutate_code(source, operator, occurrence)


def _left_out(source: str, nodes: list[ast.AST]):
    raw, starts = source.encode(), [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    for node in nodes:
        keyword = isinstance(node, ast.keyword)
        called = isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant)
        put = isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
        if keyword or called or put or isinstance(node, ast.AugAssign):
            start, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
            rest = re.sub(rb"^, *", b"", raw[end:]) if keyword else raw[end:]
            yield (raw[:start] + (b"" if keyword else b"pass") + rest).decode()


def preload() -> None:
    """Imports what is not ours, RecBole with its mends, none of which is a target; then forgets this package again."""
    importlib.import_module("recbole_metarec")
    importlib.import_module("recbole.quick_start")
    for name in [name for name in sys.modules if name.partition(".")[0] == "recbole_metarec"]:
        del sys.modules[name]
    # a mutant's own finder would ask the one of the package that is forgotten, and that one the mutant's, for ever
    sys.meta_path[:] = [one for one in sys.meta_path if "recbole_metarec" not in getattr(one, "__module__", "")]
    for name in ("pandas", "scipy.stats", "polars", "sklearn.decomposition", "torch._dynamo"):
        importlib.import_module(name)
    gc.freeze()  # else the first collection in every fork copies the memory of all of it


def _pytest_on(target: str, text: str) -> None:
    """In a process of its own, which ends with pytest's exit code: the target's tests, with ``text`` in its place."""
    module, path = f"recbole_metarec.{target.replace('/', '.')}", str(ROOT / "recbole_metarec" / f"{target}.py")

    class Loader(importlib.machinery.SourceFileLoader):
        def get_code(self, fullname):
            return compile(text, path, "exec")

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            return importlib.util.spec_from_loader(name, Loader(name, path)) if name == module else None

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.meta_path.insert(0, Finder)
    tests = [str(TESTS / name) for name in TARGETS[target]]
    os._exit(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *tests]))


def outcome(target: str, text: str, seconds: float | None) -> str:
    """``killed``, ``survived`` or ``timeout``."""
    child = multiprocessing.get_context("fork").Process(target=_pytest_on, args=(target, text))
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        return "timeout"
    return "survived" if child.exitcode == 0 else "killed"


def examine(target: str, sample: int | None, equivalents: list[str]) -> int:
    """Prints the survivors and the score of one module; returns how many survived.

    equivalents: whole changes, or their beginnings (``line =>``: whatever becomes of that line).
    """
    source = (ROOT / "recbole_metarec" / f"{target}.py").read_text()
    began = time.monotonic()
    if outcome(target, source, None) != "survived":
        raise SystemExit(f"error: {target}: its tests fail as it is")
    limit, todo, count = 20 + 4 * (time.monotonic() - began), mutants(source), Counter()
    chosen = sorted(random.Random(0).sample(todo, min(sample or len(todo), len(todo))))
    print(f"{target}: {len(chosen)} of {len(todo)} mutants", flush=True)
    for mutant in chosen:
        known = any(mutant.change.startswith(change) for change in equivalents)
        result = "equivalent" if known else outcome(target, mutant.text, limit)
        count[result] += 1
        if result == "survived":
            print(f"  {target}.py:{mutant.line}: {mutant.change}", flush=True)
    differ = len(chosen) - count["equivalent"]
    score = (differ - count["survived"]) / max(1, differ)
    print(f"{target}: {dict(count)}, score {score:.1%}", flush=True)
    return count["survived"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="parts of names of modules; none: all")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, drawn at random")
    given = parser.parse_args()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # to look for plugins takes longer than most tests
    sys.path[:0] = [str(ROOT), str(TESTS)]
    reasons = yaml.safe_load((TESTS / "mutation_equivalents.yaml").read_text())
    wanted = [target for target in TARGETS if not given.targets or any(part in target for part in given.targets)]
    for part in given.targets:
        if not any(part in target for target in wanted):
            parser.error(f"no module has {part!r} in its name; there are {', '.join(TARGETS)}")
    preload()
    survived = 0
    for target in wanted:
        changes = [change for listed in reasons.get(target, {}).values() for change in listed]
        survived += examine(target, given.sample, changes)
    return int(survived > 0)


if __name__ == "__main__":
    sys.exit(main())
