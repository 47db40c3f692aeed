"""_core.pyi and the built module say the same: names, signatures, defaults and docstrings."""

import ast
import inspect
from pathlib import Path
from typing import Any

import pytest

import wanoffload._core as core

STUB = Path(core.__file__).parent / "_core.pyi"
# Names that every module and class has.
COMMON = set(dir(type(core))) | set(dir(core.__class__)) | set(dir(object)) | {"__module__", "__doc__", "__file__"}
COMMON |= {"__name__", "__package__", "__loader__", "__spec__", "__path__", "__cached__", "__builtins__"}


def stub_items(body: list[ast.stmt], prefix: str = "") -> dict[str, ast.stmt]:
    """Dotted name -> definition for every class, function and property of the stub."""
    items: dict[str, ast.stmt] = {}
    for node in body:
        if isinstance(node, ast.ClassDef):
            items[prefix + node.name] = node
            items |= stub_items(node.body, f"{prefix}{node.name}.")
        elif isinstance(node, ast.FunctionDef):
            items[prefix + node.name] = node
    return items


ITEMS = stub_items(ast.parse(STUB.read_text()).body)
FUNCTIONS = {name: node for name, node in ITEMS.items() if isinstance(node, ast.FunctionDef)}


def decorators(node: ast.FunctionDef) -> set[str]:
    return {d.id for d in node.decorator_list if isinstance(d, ast.Name)}


def find(name: str) -> Any:
    """The object of the module that a dotted name of the stub stands for; a class for its __init__."""
    found: Any = core
    for part in name.removesuffix(".__init__").split("."):
        found = inspect.getattr_static(found, part)
        if isinstance(found, staticmethod):
            found = found.__func__
    return found


def module_names() -> set[str]:
    """Dotted names of all that the module defines itself."""
    names = set()
    for name in set(vars(core)) - COMMON:
        names.add(name)
        if inspect.isclass(getattr(core, name)):
            names |= {f"{name}.{member}" for member in set(vars(getattr(core, name))) - COMMON - {"__new__"}}
    return names


def stub_parameters(node: ast.FunctionDef) -> list[tuple[str, str, Any]]:
    """(kind, name, default) of each parameter but self."""
    spec = node.args
    plain = [*spec.posonlyargs, *spec.args]
    defaults = [inspect.Parameter.empty] * (len(plain) - len(spec.defaults))
    defaults += [ast.literal_eval(default) for default in spec.defaults]
    found = [("plain", arg.arg, default) for arg, default in zip(plain, defaults, strict=True) if arg.arg != "self"]
    if spec.vararg:
        found.append(("*", spec.vararg.arg, inspect.Parameter.empty))
    if spec.kwarg:
        found.append(("**", spec.kwarg.arg, inspect.Parameter.empty))
    return found


def module_parameters(found: Any) -> list[tuple[str, str, Any]]:
    kinds = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}
    parameters = inspect.signature(found).parameters.values()
    return [(kinds.get(p.kind, "plain"), p.name, p.default) for p in parameters if p.name != "self"]


def words(text: str | None) -> str:
    return " ".join((text or "").split())


def test_the_stub_and_the_module_have_the_same_names() -> None:
    stub = {name for name in ITEMS if not name.endswith(".__init__")}
    assert stub == module_names()


@pytest.mark.parametrize("name", [n for n, node in FUNCTIONS.items() if "property" not in decorators(node)])
def test_signatures_agree(name: str) -> None:
    assert module_parameters(find(name)) == stub_parameters(FUNCTIONS[name])


@pytest.mark.parametrize("name", [n for n, node in FUNCTIONS.items() if "property" in decorators(node)])
def test_properties_are_properties(name: str) -> None:
    assert inspect.isgetsetdescriptor(find(name))


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "_testing." in n])
def test_switches_are_static(name: str) -> None:
    assert "staticmethod" in decorators(FUNCTIONS[name])
    assert isinstance(inspect.getattr_static(core._testing, name.split(".")[1]), staticmethod)


@pytest.mark.parametrize("name", [n for n in ITEMS if "__" not in n])
def test_docstrings_agree(name: str) -> None:
    doc = words(ast.get_docstring(ITEMS[name]))
    assert doc
    assert words(inspect.getdoc(find(name))) == doc


def test_classes_with_no_constructor_in_the_stub_cannot_be_made() -> None:
    for name, node in ITEMS.items():
        if isinstance(node, ast.ClassDef) and f"{name}.__init__" not in ITEMS:
            with pytest.raises(TypeError):
                getattr(core, name)()
