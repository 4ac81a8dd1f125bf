"""Methods as plugins: what is refused, and that built-in methods come through the same door."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest

from prunebench import hookimpl
from prunebench.errors import MethodError, UnknownMethodError
from prunebench.registry import describe, manager
from prunebench.registry import entry_points as plugins
from prunebench.registry.entry_points import load_method
from prunebench.registry.manager import plugin_manager, wrappers_of
from prunebench.registry.method_class import MethodClass
from prunebench.registry.plugin_files import kebab
from prunebench.suite.file import load_suite
from prunebench.suite.planning import plan

METHOD = """
from dataclasses import dataclass
from prunebench import hookimpl


@dataclass(frozen=True)
class {cls}:
    @hookimpl
    def prune(self): ...
"""


@dataclass(frozen=True)
class Good:
    """A method.

    Args:
        power: what |W| is raised to.
        names, more: two words
            on two lines.
    """

    power: float = 1.0
    names: tuple[str, ...] = ("a",)
    more: int | None = None
    flag: bool = False

    @hookimpl
    def prune(self, model: Any, sparsity: Any) -> None: ...


@dataclass(frozen=True)
class Defaulted:
    @hookimpl
    def prune(self, model: Any, data: Any, sparsty: float = 0.5) -> None: ...


@dataclass(frozen=True)
class Starred:
    @hookimpl
    def prune(self, *everything: Any) -> None: ...


@dataclass(frozen=True)
class Keywords:
    @hookimpl
    def prune(self, **everything: Any) -> None: ...


@dataclass(frozen=True)
class Misspelt:
    @hookimpl
    def prune(self, model: Any, sparsty: Any) -> None: ...


@dataclass(frozen=True)
class Unmarked:
    def prune(self, model: Any) -> None: ...


@dataclass(frozen=True)
class Changer:
    changes = "everything"

    @hookimpl
    def prune(self, model: Any) -> None: ...


class Plain:
    @hookimpl
    def prune(self, model: Any) -> None: ...


@dataclass(frozen=True)
class Wrapper:
    @hookimpl(wrapper=True)
    def prune(self) -> Any:
        return (yield)


class Unmade:
    """A wrapper whose constructor fails."""

    def __init__(self) -> None:
        raise RuntimeError("no licence")

    @hookimpl(wrapper=True)
    def prune(self) -> Any:
        return (yield)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.entry_points
    extra = [
        EntryPoint(cls.__name__.lower(), f"{__name__}:{cls.__name__}", plugins.GROUP)
        for cls in (Good, Defaulted, Starred, Keywords, Misspelt, Unmarked, Changer, Plain)
    ]
    extra.append(EntryPoint("broken", "prunebench_no_such_module:Method", plugins.GROUP))

    def entry_points(group: str) -> EntryPoints:
        return EntryPoints([*real(group=group), *(extra if group == plugins.GROUP else [])])

    monkeypatch.setattr(plugins, "entry_points", entry_points)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("defaulted", "the argument 'sparsty' of prune has a default, so a misspelt name would run unnoticed"),
        ("starred", r"prune takes \*everything, which is never filled"),
        ("keywords", r"prune takes \*everything, which is never filled"),
        ("misspelt", "unknown argument 'sparsty': did you mean 'sparsity'"),
        ("unmarked", "no function 'prune' marked with"),
        ("changer", "changes = 'everything': valid: prunable, all, nothing"),
        ("plain", "must name a dataclass"),
        ("broken", "failed to import: ModuleNotFoundError: No module named 'prunebench_no_such_module'"),
        ("wandb", "unknown method 'wandb': did you mean 'wanda'"),
    ],
)
def test_what_pluggy_would_let_through_is_refused(name: str, message: str) -> None:
    with pytest.raises(MethodError, match=message) as caught:
        load_method(name)
    assert caught.value.exit_code == 2


@pytest.mark.usefixtures("registered")
def test_a_broken_plugin_stops_nobody_else() -> None:
    assert {"broken", "good", "wanda"} <= set(plugins.installed())
    assert load_method("good").cls is Good


def test_two_packages_with_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.entry_points
    twice = EntryPoint("wanda", "elsewhere:Wanda", plugins.GROUP)
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints([*real(group=group), twice]))
    with pytest.raises(MethodError, match="two packages register the method 'wanda': prunebench and unknown"):
        load_method("wanda")
    assert load_method("magnitude").name == "magnitude"
    (told,) = [method for method in describe.describe_all() if method["name"] == "wanda"]
    assert "uninstall one of them" in told["error"]


def test_a_restriction_hides_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.RESTRICTION, "Prune_Bench, other")
    with pytest.raises(UnknownMethodError, match=r"unknown method 'wanda': valid: none \(PRUNEBENCH_PLUGINS='"):
        load_method("wanda")
    monkeypatch.setenv(plugins.RESTRICTION, "prunebench")
    assert load_method("wanda").distribution == "prunebench"
    monkeypatch.setenv(plugins.RESTRICTION, "")
    assert plugins.installed() == {}


class TestPluginFiles:
    def test_a_class_is_called_by_its_name_in_kebab_case(self) -> None:
        for cls, name in (("Magnitude", "magnitude"), ("RIA", "ria"), ("MyMethod", "my-method"), ("ElsaL", "elsa-l")):
            assert kebab(cls) == name

    def test_it_stands_beside_the_installed_ones(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(METHOD.format(cls="MyMethod"))
        method = load_method("my-method", [file])
        assert (method.distribution, method.file) == ("mine.py", file)
        assert {"my-method", "wanda"} <= {entry["name"] for entry in describe.describe_all([file])}

    def test_a_name_that_is_taken(self, tmp_path: Path) -> None:
        file = tmp_path / "mine.py"
        file.write_text(METHOD.format(cls="Wanda"))
        with pytest.raises(MethodError, match=r"two packages register the method 'wanda': prunebench and mine\.py"):
            load_method("wanda", [file])

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("mine.py", "1 / 0", "failed to import: ZeroDivisionError: division by zero"),
            ("mine.py", "x = 1", "holds no plugin: define a dataclass with a function 'prune'"),
            ("mine.txt", "x = 1", "there is no plugin file"),
        ],
    )
    def test_what_is_none(self, tmp_path: Path, name: str, content: str, message: str) -> None:
        (tmp_path / name).write_text(content)
        with pytest.raises(MethodError, match=message):
            load_method("mine", [tmp_path / name])


GOOD = MethodClass("good", Good, "somewhere", "1")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pwer": 2.0}, "no option 'pwer': did you mean 'power'"),
        ({"power": "2"}, "the option 'power' of 'good' is '2': it must be of type float"),
        ({"more": 1.5}, r"the option 'more' of 'good' is 1.5: it must be of type int \| None"),
        ({"flag": 1}, "the option 'flag' of 'good' is 1: it must be of type bool"),
        ({"names": "abc"}, "the option 'names' of 'good' is 'abc'"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(MethodError, match=message):
        GOOD.make(options)


def test_a_method_without_options_refuses_one_too(write_suite: Callable[..., Path]) -> None:
    suite = write_suite(methods="methods: [{name: wanda, options: {foo: 1}}]")
    with pytest.raises(MethodError, match="the method 'wanda' has no option 'foo': valid: none") as caught:
        plan(load_suite(suite))
    assert caught.value.exit_code == 2


def test_a_method_may_refuse_a_value() -> None:
    with pytest.raises(MethodError, match=r"'sparsegpt' refuses its options: percdamp -1.0 is negative"):
        load_method("sparsegpt").make({"percdamp": -1.0})


def test_options_are_complete() -> None:
    resolved = GOOD.resolve({"power": 2, "names": ["x", "y"]})
    assert resolved == {"power": 2, "names": ("x", "y"), "more": None, "flag": False}
    assert GOOD.option_docs == {
        "power": "what |W| is raised to.",
        "names": "two words on two lines.",
        "more": "two words on two lines.",
    }
    assert GOOD.option_types == {"power": "float", "names": "tuple[str, ...]", "more": "int | None", "flag": "bool"}
    assert not GOOD.takes_data
    assert load_method("wanda").takes_data


def test_every_built_in_option_is_documented() -> None:
    for name, (source, *_) in plugins.installed().items():
        if source.distribution == "prunebench":
            method = load_method(name)
            assert method.summary, name
            assert set(method.options) == set(method.option_docs), name


def test_wrappers_surround_the_one_method(monkeypatch: pytest.MonkeyPatch) -> None:
    real = plugins.entry_points
    wrapper = EntryPoint("profiler", f"{__name__}:Wrapper", plugins.WRAPPERS)
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda group: EntryPoints([wrapper] if group == plugins.WRAPPERS else real(group=group)),
    )
    made = plugin_manager(GOOD, {})
    assert wrappers_of(made, GOOD) == ["profiler (unknown 0)"]
    assert len(made.hook.prune.get_hookimpls()) == 2
    assert plugin_manager(GOOD, {}) is not made


@pytest.mark.parametrize(
    ("name", "reason"),
    [("Good", "must mark its function"), ("Gone", "failed to import"), ("Unmade", "cannot be made: RuntimeError")],
)
def test_a_broken_wrapper_is_noted_and_left_out(name: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrapper = EntryPoint("profiler", f"{__name__}:{name}", plugins.WRAPPERS)
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints([wrapper]))
    told: list[str] = []
    monkeypatch.setattr(manager, "note", lambda what, **_: told.append(what))
    assert wrappers_of(plugin_manager(GOOD, {}), GOOD) == []
    assert told[0].startswith("the wrapper 'profiler' was left out:")
    assert reason in told[0]
    (entry,) = [entry for entry in describe.describe_plugins() if entry["kind"] == "wrapper"]
    assert reason in entry["error"]


def test_exactly_one_implementation() -> None:
    with pytest.raises(MethodError, match="0 implementations of prune"):
        plugin_manager(MethodClass("wrapper", Wrapper, "somewhere", "1"), {})
