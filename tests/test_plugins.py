"""Methods as plugins: what is refused, and that built-in methods come through the same door."""

from dataclasses import dataclass
from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from prunebench import hookimpl, plugins
from prunebench.errors import MethodError
from prunebench.plugins import MethodClass, load_method, make_method, plugin_manager, resolve_options


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
        plugins.installed()


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
        make_method(GOOD, options)


def test_a_method_may_refuse_a_value() -> None:
    with pytest.raises(MethodError, match=r"'sparsegpt' refuses its options: percdamp -1.0 is negative"):
        make_method(load_method("sparsegpt"), {"percdamp": -1.0})


def test_options_are_complete() -> None:
    resolved = resolve_options(GOOD, {"power": 2, "names": ["x", "y"]})
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
    for name, point in plugins.installed().items():
        if point.dist and point.dist.name == "prunebench":
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
    manager = plugin_manager(GOOD, {})
    assert len(manager.hook.prune.get_hookimpls()) == 2
    assert plugin_manager(GOOD, {}) is not manager


def test_exactly_one_implementation() -> None:
    with pytest.raises(MethodError, match="0 implementations of prune"):
        plugin_manager(MethodClass("wrapper", Wrapper, "somewhere", "1"), {})
