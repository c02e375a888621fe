"""Judges a pickle by the allow-list: what it imports, and what it does with that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from shipway.bundles.scanning.imports import Allowed, Use
from shipway.bundles.scanning.machine import Judge
from shipway.bundles.scanning.values import OPAQUE, Made, Name
from shipway.core.scans import Danger

Report = Callable[[Danger, int, str, str], None]
"""Takes the danger, the position, the name and the words."""

_PLAIN = frozenset(
    {"object", "dict", "list", "tuple", "int", "float", "str", "set", "frozenset", "complex"}
)


class AllowListJudge(Judge):
    """Reports everything that the allow-list does not let through.

    With `lenient`, what is imported counts only once it is called: for bytes that merely look like a
    pickle. `refers` says whether names of outside objects are usual, as in torch's archives.
    """

    def __init__(
        self, allowed: Allowed, report: Report, *, lenient: bool = False, refers: bool = False
    ) -> None:
        self._allowed = allowed
        self._report = report
        self._lenient = lenient
        self._refers = refers

    def imported(self, name: Name | None, position: int) -> None:
        """See Judge."""
        if self._lenient:
            return
        if name is None:
            self._report(Danger.IMPORT, position, "", "imports a name that it computes")
        elif not self._allowed.may(Use.NAME, name):
            self._report(Danger.IMPORT, position, str(name), f"imports `{name}`")

    def extended(self, position: int) -> None:
        """See Judge."""
        if not self._lenient:
            self._report(Danger.IMPORT, position, "", "imports by an extension code of `copyreg`")

    def referred(self, position: int) -> Any:
        """See Judge."""
        if not self._refers and not self._lenient:
            self._report(Danger.CALL, position, "", "refers to an object outside of the pickle")
        return OPAQUE

    def called(self, callee: Any, arguments: Any, position: int) -> Any:
        """See Judge."""
        if not isinstance(callee, Name):
            if not self._lenient:
                self._report(Danger.CALL, position, "", "calls something that is not imported")
            return OPAQUE
        if not self._allowed.may(Use.CALL, callee):
            self._object(callee, position, "calls")
            return Made(callee, arguments)
        rule = _rule_of(callee)
        if rule is not None:
            return rule(self, callee, arguments, position)
        return Made(callee, arguments)

    def made(self, kind: Any, arguments: Any, position: int) -> Any:
        """See Judge."""
        if not isinstance(kind, Name):
            if not self._lenient:
                self._report(Danger.CALL, position, "", "makes an instance of what is no class")
            return OPAQUE
        if not self._allowed.may(Use.MAKE, kind):
            self._object(kind, position, "makes a")
        return Made(kind, arguments)

    def changed(self, target: Any, position: int) -> None:
        """See Judge."""
        if isinstance(target, Made):
            if self._allowed.may(Use.MAKE, target.maker) or self._allowed.may(
                Use.CALL, target.maker
            ):
                return
            if self._lenient:
                self._object(target.maker, position, "makes a")
        elif not self._lenient:
            what = str(target) if isinstance(target, Name) else ""
            self._report(
                Danger.CALL, position, what, f"changes {f'`{what}`' if what else 'plain data'}"
            )

    def _object(self, name: Name, position: int, verb: str) -> None:
        """What was imported without leave is on record already, unless imports are let pass."""
        if self._lenient or self._allowed.may(Use.NAME, name):
            self._report(Danger.CALL, position, str(name), f"{verb} `{name}`")

    def refuse_call(self, name: Name, position: int, why: str) -> Any:
        """Reports a call of an allowed function with arguments that make it something else."""
        self._report(Danger.CALL, position, str(name), f"calls `{name}` {why}")
        return OPAQUE

    def may_make(self, value: Any) -> bool:
        """Whether the value is a class whose instances may be made."""
        return isinstance(value, Name) and self._allowed.may(Use.MAKE, value)

    def may_name(self, name: Name) -> bool:
        """Whether a pickle may import it."""
        return self._allowed.may(Use.NAME, name)


def _texts(arguments: Any, count: int) -> list[Any] | None:
    """The arguments, when they are known and at least so many."""
    return list(arguments) if isinstance(arguments, tuple) and len(arguments) >= count else None


def _encoded(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """`_codecs.encode(text, "latin1")`: how old protocols write bytes."""
    given = _texts(arguments, 2)
    if given is None or given[1] not in ("latin1", "latin-1", "iso-8859-1", "ascii", "utf-8"):
        return judge.refuse_call(callee, position, "with a codec of its own choice")
    return OPAQUE


def _reconstructed(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """`copyreg._reconstructor(class, base, state)`: NEWOBJ of the old protocols."""
    given = _texts(arguments, 2)
    base = given[1] if given else None
    is_plain = isinstance(base, Name) and base.module == "builtins" and base.name in _PLAIN
    if given is None or not judge.may_make(given[0]) or not (is_plain or judge.may_make(base)):
        return judge.refuse_call(callee, position, "with other than classes that it may make")
    return Made(given[0], arguments)


def _new_object(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """`copyreg.__newobj__(class, *arguments)`."""
    given = _texts(arguments, 1)
    if given is None or not judge.may_make(given[0]):
        return judge.refuse_call(callee, position, "with other than a class that it may make")
    return Made(given[0], arguments)


def _ufunc(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """Numpy's `_ufunc_reconstruct(module, name)`, which is an import."""
    given = _texts(arguments, 2)
    if given is None or not all(isinstance(one, str) for one in given):
        return judge.refuse_call(callee, position, "with a name that it computes")
    name = Name(given[0], given[1])
    if not judge.may_name(name):
        return judge.refuse_call(callee, position, f"to import `{name}`")
    return name


def _generator(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """numpy.random's constructors, which call what they are given."""
    given = arguments if isinstance(arguments, tuple) else None
    if given is None or any(
        isinstance(one, Name) and not one.module.startswith("numpy.random") for one in given
    ):
        return judge.refuse_call(callee, position, "with other than numpy's generators")
    return Made(callee, arguments)


def _of_own_class(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """A constructor whose first argument is the class to make, of the same package."""
    given = _texts(arguments, 1)
    kind = given[0] if given else None
    package = callee.module.partition(".")[0]
    if (
        not isinstance(kind, Name)
        or not judge.may_make(kind)
        or kind.module.partition(".")[0] != package
    ):
        return judge.refuse_call(callee, position, f"with other than a class of {package}'s")
    return Made(callee, arguments)


def _plain_arguments(judge: AllowListJudge, callee: Name, arguments: Any, position: int) -> Any:
    """A constructor that would call a function given to it."""
    if not isinstance(arguments, tuple) or any(
        not judge.may_make(one) for one in _names(arguments)
    ):
        return judge.refuse_call(callee, position, "with a function")
    return Made(callee, arguments)


def _names(value: Any) -> Iterator[Name]:
    """The names in a value, in tuples within tuples too; each tuple is looked at once."""
    left, seen = [value], set[int]()
    while left:
        one = left.pop()
        if isinstance(one, Name):
            yield one
        elif isinstance(one, tuple) and id(one) not in seen:
            seen.add(id(one))
            left.extend(one)


_Rule = Callable[[AllowListJudge, Name, Any, int], Any]
_RULES: dict[tuple[str, str], _Rule] = {
    ("_codecs", "encode"): _encoded,
    ("copyreg", "_reconstructor"): _reconstructed,
    ("copyreg", "__newobj__"): _new_object,
    ("numpy.core", "_ufunc_reconstruct"): _ufunc,
    ("numpy.random._pickle", "__randomstate_ctor"): _generator,
    ("numpy.random._pickle", "__generator_ctor"): _generator,
    ("numpy.random._pickle", "__bit_generator_ctor"): _generator,
    ("numpy.core.multiarray", "_reconstruct"): _of_own_class,
    ("numpy.ma.core", "_mareconstruct"): _of_own_class,
    ("sklearn.metrics._dist_metrics", "newObj"): _of_own_class,
    ("sklearn.neighbors._kd_tree", "newObj"): _of_own_class,
    ("sklearn.neighbors._ball_tree", "newObj"): _of_own_class,
    ("pandas.core.indexes.base", "_new_Index"): _of_own_class,
    ("pandas.core.indexes.datetimes", "_new_DatetimeIndex"): _of_own_class,
    ("pandas.core.indexes.interval", "_new_IntervalIndex"): _of_own_class,
    ("pandas.core.indexes.period", "_new_PeriodIndex"): _of_own_class,
    ("pandas.core.indexes.timedeltas", "_new_TimedeltaIndex"): _of_own_class,
    ("collections", "defaultdict"): _plain_arguments,
}
"""Allowed functions that import or call what they are given: allowed with harmless arguments only."""


def _rule_of(callee: Name) -> _Rule | None:
    if callee.name.startswith("__pyx_unpickle_"):
        return _of_own_class
    return _RULES.get((callee.module.replace("numpy._core", "numpy.core"), callee.name))
