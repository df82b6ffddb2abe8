"""The house stays as it was built: what imports show, what lies at the root, and who asks a model for its name."""

import ast
from pathlib import Path

import recbole_metarec
from recbole_metarec.config.models import SHIPPED_SPECS

PACKAGE = Path(recbole_metarec.__file__).parent
FILES = {str(file.relative_to(PACKAGE)): ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
ROOT = ["__init__", "__main__", "errors", "figures", "files", "lazy", "quick_start", "randomness", "serve", "tables"]
REGISTRY = "config/models.py"
NAMES = {spec.name for spec in SHIPPED_SPECS}


def test_only_what_users_import_and_what_all_need_lies_at_the_root():
    assert [name.removesuffix(".py") for name in FILES if "/" not in name] == ROOT


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
