"""The scanning process: its bounds, real models of the allow-list's frameworks, and that nothing runs."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from pickle_shapes import PLAIN, calls
from scanning import found_in, report_of

from shipway.bundles.scanning import __main__ as child
from shipway.bundles.scanning import process
from shipway.bundles.scanning.bundle import Rules
from shipway.bundles.scanning.process import Scanner
from shipway.core.errors import DangerousArtifact
from shipway.testing.bundles import write_bundle

pytestmark = pytest.mark.filterwarnings("ignore")


def test_report_of_the_process_is_that_of_the_scan(tmp_path):
    files = {"model/m.pkl": calls("os", "system"), "model/x.txt": b"x"}
    write_bundle(tmp_path / "a", files=files)
    assert Scanner().scanned(tmp_path / "a") == report_of(tmp_path / "b", files)
    write_bundle(tmp_path / "c", files={"model/m.pkl": calls("mine", "Net")})
    assert Scanner(Rules(imports=("mine.Net",))).scanned(tmp_path / "c").findings == ()


def test_what_a_pickle_would_run_does_not_run(tmp_path):
    mark = tmp_path / "mark"
    write_bundle(tmp_path / "b", files={"model/m.pkl": calls("os", "mkdir", str(mark))})
    assert Scanner().scanned(tmp_path / "b").findings
    assert not mark.exists()
    pickle.loads(calls("os", "mkdir", str(mark)))  # the attack is a real one
    assert mark.exists()


def test_scan_that_takes_too_long_refuses_the_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "_LEAST_S", 1)
    monkeypatch.setattr(process, "_BYTES_PER_S", 1 << 40)
    endless = b"\x80\x04" + b"N0" * (16 << 20)
    write_bundle(tmp_path / "b", files={"model/m.pkl": endless + PLAIN[2:]})
    with pytest.raises(DangerousArtifact, match="cannot be scanned"):
        Scanner().scanned(tmp_path / "b")


def test_bounds_hold_for_good():
    pid = os.fork()
    if not pid:
        child.bind(60)
        codes = []
        for attempt in (
            lambda: bytearray(3 << 30),
            lambda: [open("/dev/null") for _ in range(100)],  # noqa: SIM115
            lambda: Path("/proc/self/limits").read_text().index("nothing of it"),
        ):
            try:
                attempt()
            except (MemoryError, OSError, ValueError):
                codes.append(1)
        os._exit(42 if len(codes) == 3 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 42


def estimators():
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import (
        GradientBoostingClassifier,
        HistGradientBoostingClassifier,
        IsolationForest,
        StackingClassifier,
    )
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.gaussian_process import GaussianProcessClassifier
    from sklearn.gaussian_process.kernels import RBF, WhiteKernel
    from sklearn.linear_model import LogisticRegression, PoissonRegressor, SGDClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, SplineTransformer
    from sklearn.svm import SVC

    yield GradientBoostingClassifier(n_estimators=2)
    yield HistGradientBoostingClassifier(max_iter=2)
    yield IsolationForest(n_estimators=2)
    yield StackingClassifier([("a", LogisticRegression()), ("b", SGDClassifier())], cv=2)
    yield GaussianProcessClassifier(RBF() + WhiteKernel())
    yield PoissonRegressor()
    yield GridSearchCV(SVC(), {"C": [1, 2]}, cv=2, scoring="f1_macro")
    yield KNeighborsClassifier()
    yield MLPClassifier(max_iter=3)
    yield make_pipeline(FunctionTransformer(np.log1p), SplineTransformer(), LogisticRegression())
    yield make_pipeline(ColumnTransformer([("a", OneHotEncoder(), [0])]), LogisticRegression())
    _ = TfidfVectorizer


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_real_estimators_are_let_in(tmp_path, protocol):
    rows = np.abs(np.random.default_rng(0).normal(size=(40, 3)))
    labels = np.arange(40) % 2
    for number, estimator in enumerate(estimators()):
        data = pickle.dumps(estimator.fit(rows, labels), protocol)
        assert found_in(tmp_path / str(number), data) == (), estimator


def test_real_values_of_the_frameworks_are_let_in(tmp_path):
    import datetime
    from collections import OrderedDict, defaultdict

    import lightgbm
    import pandas as pd
    import scipy.sparse as sp
    import xgboost

    rows = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.arange(60) % 3
    # Texts are Arrow's in pandas 3, which the list leaves out.
    columns = pd.Index(["a", "b"], dtype=object)
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": pd.Categorical([1, 2])}, columns=columns)
    values = [
        frame, frame["a"], frame.index, pd.Timestamp("2020-01-01", tz="UTC"), pd.Int64Dtype(),
        sp.csr_matrix(np.eye(3)), sp.csr_array(np.eye(3)),
        np.random.default_rng(1), np.random.RandomState(1),
        OrderedDict(a=1), defaultdict(list, a=[1]), datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
        xgboost.XGBClassifier(n_estimators=2).fit(rows, labels),
        lightgbm.LGBMClassifier(n_estimators=2, verbose=-1).fit(rows, labels),
        np.ma.masked_array([1, 2], [True, False]), np.float64(1.5), np.array([None, 1], dtype=object),
    ]  # fmt: skip
    for protocol in range(6):
        for number, value in enumerate(values):
            data = pickle.dumps(value, protocol)
            assert found_in(tmp_path / f"{protocol}-{number}", data) == (), (protocol, value)


def test_list_lets_in_only_classes_of_the_packages_themselves():
    """Whatever else a listed module imports under a class's name is no way out of it."""
    import importlib
    import pkgutil

    from shipway.bundles.scanning.imports import _COMPILED, Use, allowed
    from shipway.bundles.scanning.values import Name

    allow = allowed()
    foreign = set()
    for package in (
        "sklearn",
        "scipy.sparse",
        "scipy.interpolate",
        "pandas",
        "xgboost",
        "lightgbm",
    ):
        root = importlib.import_module(package)
        for info in pkgutil.walk_packages(root.__path__, f"{package}.", onerror=lambda _: None):
            module = info.name
            if ".tests" in module or not any(one.fullmatch(module) for _, one, _ in _COMPILED):
                continue
            for name, found in _classes_of(module):
                home = found.__module__.partition(".")[0]
                if allow.may(Use.MAKE, Name(module, name)) and home not in FRAMEWORKS:
                    is_called = allow.may(Use.CALL, Name(module, name))
                    foreign.add((found.__name__, is_called))
    assert foreign
    assert {name for name, is_called in foreign if not is_called} <= ABSTRACT
    assert {name for name, is_called in foreign if is_called} <= set()


FRAMEWORKS = {"sklearn", "scipy", "pandas", "xgboost", "lightgbm", "numpy", "builtins"}
ABSTRACT = {
    "ABC", "ABCMeta", "Any", "Callable", "Collection", "Counter", "Decimal", "Enum", "Generator", "Generic",
    "GenericAlias", "Hashable", "Integral", "IntEnum", "Iterable", "Iterator", "Mapping", "MutableMapping",
    "IO", "SupportsIndex", "Number", "Protocol", "Real", "Sequence", "StringIO", "TypeVar", "NamedTuple", "Self",
}  # fmt: skip


def _classes_of(module):
    import importlib

    try:
        found = vars(importlib.import_module(module))
    except ImportError:  # optional parts that are not installed
        return []
    return [(name, one) for name, one in found.items() if isinstance(one, type)]
