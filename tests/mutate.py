"""Mutation run: which small faults, put into the numeric core one at a time, do the tests not see?

    python tests/mutate.py                      # every module below
    python tests/mutate.py quantizer ranking    # some; --sample 100 draws that many mutants of each

Mutations are Cosmic Ray's (``pip install cosmic-ray``), of each operator its nearest relatives alone (+ for -, but not
<< for -, which any test sees), and two of our own: a statement or a keyword argument is left out. What a run costs is
importing torch and RecBole, so both are imported once, and every mutant is a fork of that process which imports this
package anew. No file is changed. ``mutation_equivalents.yaml`` lists mutants that no test can tell, and why.
Prints the survivors; exit code 1 where a survivor is not in that list.
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
import types
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from cosmic_ray import plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code

TESTS, ROOT = Path(__file__).parent, Path(__file__).parents[1]
# the module -> the tests that are about it, the fast ones first
TARGETS = {
    "model/quantizer": ("test_quantizer.py",),
    "trainer/meta_step": ("test_meta_step.py", "test_finite.py::test_weights_sum_to_one_at_every_temperature",
                          "test_finite.py::test_a_rate_that_would_become_nan_leaves_its_source_out"),
    "trainer/step": ("test_step.py",
                     "test_finite.py::test_a_gradient_that_is_not_finite_never_reaches_theta_in_the_meta_step",
                     "test_finite.py::test_a_gradient_that_is_not_finite_never_reaches_theta_in_joint_training"),
    "model/lru": ("test_lru.py",
                  "test_finite.py::test_eigenvalues_and_their_gradient_are_finite_wherever_the_parameters_are"),
    "model/losses": ("test_losses.py",),
    "ranking": ("test_ranking.py",),
    "leaderboard/significance": ("test_significance.py",),
}  # fmt: skip
GUARDS = {"strict", "frozen", "device"}  # keywords against later mistakes, and for a second device: not left out
BINARY = "Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|Mod_Mul|Pow_Mul|LShift_RShift|BitOr_BitAnd|BitAnd_BitOr"
COMPARISON = "Eq_NotEq|NotEq_Eq|Lt_LtE|Lt_GtE|LtE_Lt|LtE_Gt|Gt_GtE|Gt_LtE|GtE_Gt|GtE_Lt|Is_IsNot|IsNot_Is"
SWITCHES = "TrueWithFalse|FalseWithTrue|AndWithOr|OrWithAnd|BreakWithContinue|ContinueWithBreak"
OPERATORS = re.compile(
    rf"core/(NumberReplacer|AddNot|ZeroIterationForLoop|RemoveDecorator|Replace({SWITCHES})|ReplaceUnaryOperator_Delete_.*"
    rf"|ReplaceBinaryOperator_({BINARY})|ReplaceComparisonOperator_({COMPARISON}))"
)
MEMORY = 8 << 30  # bytes of address space, most of which torch's libraries take


@dataclass(frozen=True)
class Mutant:
    """One changed module: the line, what stood and what stands there (``before => after``), and the whole text."""

    line: int
    change: str
    text: str


class _Places(Visitor):
    """Where an operator of Cosmic Ray can act, in the order of its occurrences."""

    def __init__(self, operator):
        self.operator, self.found = operator, []

    def visit(self, node):
        self.found += [start for start, _ in self.operator.mutation_positions(node)]
        return node


def mutants(source: str) -> list[Mutant]:
    """Every mutant of a module that is another program: annotations, which do nothing, are left as they are."""
    tree, lines, found = ast.parse(source), source.splitlines(), {}
    spared = [node for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg in GUARDS]
    spared += [
        part for node in ast.walk(tree) for name in ("annotation", "returns") if (part := getattr(node, name, None))
    ]
    spans = [((part.lineno, part.col_offset), (part.end_lineno, part.end_col_offset)) for part in spared]
    texts = [*_of_cosmic_ray(source, spans), *_left_out(source, [n for n in ast.walk(tree) if n not in spared])]
    for text in texts:
        with contextlib.suppress(SyntaxError):
            found.setdefault(ast.dump(ast.parse(text)), text)
    found.pop(ast.dump(tree), None)
    made = []
    for text in found.values():
        pieces = difflib.SequenceMatcher(None, lines, text.splitlines(), autojunk=False).get_opcodes()
        _, start, end, new_start, new_end = next(piece for piece in pieces if piece[0] != "equal")
        before, after = (" ".join(map(str.strip, part)).split("  # ")[0] for part in
                         (lines[start:end], text.splitlines()[new_start:new_end]))  # fmt: skip
        made.append(Mutant(start + 1, f"{before} => {after}", text))
    return sorted(made, key=lambda mutant: (mutant.line, mutant.change))


def _of_cosmic_ray(source: str, spans):
    for name in filter(OPERATORS.fullmatch, plugins.operator_names()):
        operator = plugins.get_operator(name)()
        places = _Places(operator)
        places.walk(get_ast(source))
        for occurrence, place in enumerate(places.found):
            if not any(start <= place < end for start, end in spans):
                yield mutate_code(source, operator, occurrence)


def _left_out(source: str, nodes: list[ast.AST]):
    """Calls, += and assignments to attributes or elements (without a name the rest only fails), and keywords."""
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
    """Imports what is not ours. RecBole must be mended first, by our compat, which imports none of the targets."""
    package = types.ModuleType("recbole_metarec")
    package.__path__ = [str(ROOT / "recbole_metarec")]
    sys.modules[package.__name__] = package
    importlib.import_module("recbole_metarec.compat").apply()
    del sys.modules[package.__name__]
    for name in ("pandas", "scipy.stats", "polars", "sklearn.decomposition", "torch._dynamo", "hypothesis"):
        importlib.import_module(name)
    gc.freeze()  # else the first collection in every fork copies the memory of all of it


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: Path, text: str):
        super().__init__(name, str(path))
        self.text = text

    def get_code(self, fullname):
        return compile(self.text, self.path, "exec")


def _run(module: str, path: Path, text: str, tests: tuple[str, ...]) -> None:
    """In a process of its own: pytest on ``text`` in the module's place; exit code 0 if all passed."""

    class Finder:
        @staticmethod
        def find_spec(name, *_):
            made = _Loader(name, path, text)
            return importlib.util.spec_from_file_location(name, path, loader=made) if name == module else None

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for stream in (1, 2):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
    sys.meta_path.insert(0, Finder)
    files = [str(TESTS / name) for name in tests]
    os._exit(pytest.main(["-x", "-q", "--tb=no", "-p", "no:cacheprovider", f"--rootdir={ROOT}", *files]))


def outcome(module: str, path: Path, text: str, tests: tuple[str, ...], seconds: float | None) -> str:
    """``killed``, ``survived`` or ``timeout``."""
    child = multiprocessing.get_context("fork").Process(target=_run, args=(module, path, text, tests))
    child.start()
    child.join(seconds)
    if child.is_alive():
        child.kill()
        child.join()
        return "timeout"
    return "survived" if child.exitcode == 0 else "killed"


def examine(target: str, sample: int | None, known: dict[str, str]) -> bool:
    """Prints the survivors and the score of one module; whether there is one that is not known to be equivalent."""
    module, path = f"recbole_metarec.{target.replace('/', '.')}", ROOT / "recbole_metarec" / f"{target}.py"
    source, tests = path.read_text(), TARGETS[target]
    began = time.monotonic()
    if outcome(module, path, source, tests, None) != "survived":
        raise SystemExit(f"error: {target}: its tests fail as it is")
    whole = time.monotonic() - began
    todo = mutants(source)
    if sample and sample < len(todo):
        todo = random.Random(0).sample(todo, sample)
    print(f"{target}: {len(todo)} mutants, the tests take {whole:.0f} s", flush=True)
    count = Counter()
    for mutant in todo:
        result = "equivalent" if mutant.change in known else outcome(module, path, mutant.text, tests, 20 + 4 * whole)
        count[result] += 1
        if result == "survived":
            print(f"  {target}:{mutant.line}: {mutant.change}", flush=True)
    differ = len(todo) - count["equivalent"]
    print(f"{target}: {dict(count)}, score {(count['killed'] + count['timeout']) / differ:.1%} of {differ}", flush=True)
    return count["survived"] > 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help="parts of names of modules; none: all")
    parser.add_argument("--sample", type=int, help="so many mutants of each module, drawn at random")
    given = parser.parse_args()
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = (
        "1"  # reading every package's entry points takes longer than most tests
    )
    os.chdir(ROOT)
    sys.path[:0] = [str(ROOT), str(TESTS)]
    listed = yaml.safe_load((TESTS / "mutation_equivalents.yaml").read_text()) or {}
    preload()
    wanted = [target for target in TARGETS if not given.targets or any(part in target for part in given.targets)]
    left = [examine(target, given.sample, listed.get(target, {})) for target in wanted]
    return int(any(left))


if __name__ == "__main__":
    sys.exit(main())
