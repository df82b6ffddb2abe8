"""The house stays as it was built: what imports show, what lies at the root, and who asks a model for its name."""

import ast
from configparser import ConfigParser
from importlib.util import find_spec
from pathlib import Path

import recbole_metarec
from recbole_metarec.config.models import SHIPPED_SPECS

PACKAGE = Path(recbole_metarec.__file__).parent
FILES = {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
ROOT = ["__init__", "__main__", "errors", "figures", "files", "lazy", "processes", "quick_start"]
ROOT += ["randomness", "serve", "tables"]
REGISTRY = "config/models.py"
NAMES = {spec.name for spec in SHIPPED_SPECS}


def test_only_what_users_import_and_what_all_need_lies_at_the_root():
    assert [name.removesuffix(".py") for name in FILES if "/" not in name] == ROOT


CONTRACT = ConfigParser()
CONTRACT.read(PACKAGE.parent / "setup.cfg")
LAYERS = [line.split(" | ") for line in CONTRACT["importlinter:contract:layers"]["layers"].split("\n") if line]


def layer_of(module: str) -> int:
    """The number of a module's layer, 0 for the topmost."""
    return next(n for n, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}."))


def lazy_imports() -> set[tuple[str, str]]:
    """(module, the one that it imports at its first use) for each ``LazyModule("...")`` of ours."""
    return {
        (f"{PACKAGE.name}.{name.removesuffix('.py').replace('/', '.')}", node.args[0].value)
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) == "LazyModule"
        if node.args[0].value.partition(".")[0] == PACKAGE.name
    }


def test_what_is_imported_at_its_first_use_is_there_and_lies_below():
    """lint-imports does not see these."""
    edges = lazy_imports()
    assert len(edges) > 50
    assert {imported for _, imported in edges if find_spec(imported) is None} == set()
    apart = {edge for edge in edges if edge[0].rpartition(".")[0] != edge[1].rpartition(".")[0]}
    assert {edge for edge in apart if layer_of(edge[0]) >= layer_of(edge[1])} == set()


def modules_of(node) -> list[str]:
    """What an import statement imports; a dot before what is of its own package."""
    if isinstance(node, ast.ImportFrom):
        return ["." * node.level + (node.module or "")]
    return [alias.name for alias in node.names] if isinstance(node, ast.Import) else []


def test_no_function_imports_a_module_of_ours():
    """lint-imports reads such imports, but a reader of the top of the file does not see them."""
    hidden = {
        (name, module)
        for name, tree in FILES.items()
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        for module in modules_of(node)
        if module.startswith((PACKAGE.name, "."))
    }
    assert hidden == set()


def test_names_are_imported_from_where_they_are_defined():
    borrowed = {
        (name, f"{node.module}.{alias.name}")
        for name, tree in FILES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        if (source := f"{node.module.removeprefix(f'{PACKAGE.name}.').replace('.', '/')}.py") in FILES
        for alias in node.names
        if alias.name in {taken.name for other in FILES[source].body if isinstance(other, ast.ImportFrom | ast.Import)
                          for taken in other.names}
    }  # fmt: skip
    assert borrowed == set()


def test_no_two_public_classes_share_a_name():
    names = [node.name for tree in FILES.values() for node in tree.body if isinstance(node, ast.ClassDef)]
    assert {name for name in names if names.count(name) > 1 and not name.startswith("_")} == set()


def test_only_the_registry_knows_models_by_name():
    """In no comparison and in no match: whatever a model is, its ModelSpec says."""
    asked = {
        (name, leaf.lineno)
        for name, tree in FILES.items()
        if name != REGISTRY
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare | ast.MatchValue)
        for leaf in ast.walk(node)
        if isinstance(leaf, ast.Constant) and leaf.value in NAMES
    }
    assert asked == set()
