"""The allow-list: what a pickle may import, and whether it may only name it, make it, or call it.

Everything else is refused. Functions are listed by exact name. Classes are listed by the modules that
define them and the look of their names, and may only be made empty (`NEWOBJ`); those that pickles call
are listed apart. Left out on purpose, though pickles of these packages may hold them: what runs text as code or
opens files (`scipy.stats` distributions, `numpy.memmap`, `torch.load`'s relatives, joblib's `Memory`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import IntEnum

import msgspec

from shipway.bundles.scanning.values import Name


class Use(IntEnum):
    """What a pickle does with what it imports; each includes those before it."""

    NAME = 1
    MAKE = 2
    CALL = 3


def _named(use: Use, **by_module: str) -> dict[tuple[str, str], Use]:
    return {
        (module.replace("__", "."), name): use
        for module, names in by_module.items()
        for name in names.split()
    }


_EXACT: dict[tuple[str, str], Use] = {
    **_named(
        Use.CALL,
        builtins="set frozenset list dict tuple int float complex str bytes bytearray bool slice range",
        collections="OrderedDict Counter deque defaultdict",
        datetime="datetime date time timedelta timezone",
        decimal="Decimal",
        fractions="Fraction",
        uuid="UUID",
        types="SimpleNamespace",
        _codecs="encode",
        copyreg="_reconstructor",
        numpy="dtype",
        numpy__core="_ufunc_reconstruct",
        numpy__core__multiarray="_reconstruct scalar",
        numpy__core__numeric="_frombuffer",
        numpy__ma__core="_mareconstruct",
        sklearn__tree___tree="Tree",
        sklearn__metrics___dist_metrics="newObj",
        sklearn__neighbors___kd_tree="newObj",
        sklearn__neighbors___ball_tree="newObj",
        pandas="Interval Period PeriodDtype StringDtype",
        pandas__core__arrays__string_="StringDtype",
        pandas__core__dtypes__dtypes="PeriodDtype",
        pandas__core__internals__managers="BlockManager SingleBlockManager",
        pandas__core__indexes__base="_new_Index",
        pandas__core__indexes__datetimes="_new_DatetimeIndex",
        pandas__core__indexes__interval="_new_IntervalIndex",
        pandas__core__indexes__period="_new_PeriodIndex",
        pandas__core__indexes__timedeltas="_new_TimedeltaIndex",
        pandas___libs__internals="_unpickle_block",
        pandas___libs__interval="Interval",
        pandas___libs__sparse="IntIndex BlockIndex",
        pandas___libs__tslibs__nattype="_nat_unpickle",
        pandas___libs__tslibs__timedeltas="_timedelta_unpickle",
        pandas___libs__tslibs__timestamps="_unpickle_timestamp",
    ),
    ("copyreg", "__newobj__"): Use.CALL,
    ("numpy.random._pickle", "__randomstate_ctor"): Use.CALL,
    ("numpy.random._pickle", "__generator_ctor"): Use.CALL,
    ("numpy.random._pickle", "__bit_generator_ctor"): Use.CALL,
    **_named(
        Use.MAKE,
        builtins="object",
        numpy="ndarray matrix recarray record",
        numpy__ma__core="MaskedArray",
        numpy__ma="MaskedArray",
        numpy__rec="recarray record",
        numpy__random__mtrand="RandomState",
        numpy__random="SeedSequence",
        numpy__random__bit_generator="SeedSequence",
        numpy__random___mt19937="MT19937",
        numpy__random___pcg64="PCG64 PCG64DXSM",
        numpy__random___philox="Philox",
        numpy__random___sfc64="SFC64",
        joblib__numpy_pickle="NumpyArrayWrapper",
        scipy__spatial___ckdtree="cKDTree",
        scipy__spatial___kdtree="KDTree",
        sklearn__compose___column_transformer="make_column_selector",
        sklearn__metrics___scorer="_Scorer _PassthroughScorer _CurveScorer _PredictScorer _ProbaScorer"
        " _ThresholdScorer",
        sklearn__utils="Bunch",
        sklearn__utils___bunch="Bunch",
        pandas="DataFrame Series Index RangeIndex MultiIndex DatetimeIndex TimedeltaIndex PeriodIndex"
        " IntervalIndex CategoricalIndex Categorical CategoricalDtype DatetimeTZDtype SparseDtype"
        " IntervalDtype BooleanDtype Int8Dtype Int16Dtype Int32Dtype Int64Dtype UInt8Dtype UInt16Dtype"
        " UInt32Dtype UInt64Dtype Float32Dtype Float64Dtype",
        pandas__arrays="BooleanArray DatetimeArray FloatingArray IntegerArray IntervalArray PeriodArray"
        " SparseArray StringArray TimedeltaArray",
        xgboost__core="Booster",
        xgboost__callback="EarlyStopping",
        lightgbm__basic="Booster",
    ),
    **_named(
        Use.NAME,
        numpy="memmap bool bool_ int8 int16 int32 int64 uint8 uint16 uint32 uint64 intc uintc longlong"
        " float16 float32 float64 longdouble complex64 complex128 str_ bytes_ object_ void datetime64"
        " timedelta64 abs absolute add arccos arccosh arcsin arcsinh arctan arctan2 arctanh cbrt ceil cos"
        " cosh deg2rad divide exp exp2 expm1 fabs floor hypot isfinite isinf isnan log log10 log1p log2"
        " maximum minimum mod multiply negative nan_to_num power rad2deg reciprocal rint sign sin sinh sqrt"
        " square subtract tan tanh true_divide mean median sum std var argmax argmin clip",
        numpy__core___multiarray_umath="log log1p log2 log10 exp expm1 sqrt square absolute",
        pandas="NA",
        scipy___lib__array_api_compat__numpy___aliases="asarray",
        sklearn__cluster___kmeans="_kmeans_single_lloyd _kmeans_single_elkan",
        sklearn__feature_selection___univariate_selection="f_classif f_oneway f_regression r_regression chi2",
        sklearn__feature_selection___mutual_info="mutual_info_classif mutual_info_regression",
        scipy__special___special_ufuncs="expit logit log1p expm1",
        scipy__special___ufuncs="expit logit log1p expm1 boxcox boxcox1p inv_boxcox inv_boxcox1p",
    ),
}

_CLASS = r"_?[A-Z][A-Za-z0-9_]*"
_FAMILIES: tuple[tuple[Use, str, str], ...] = (
    (
        Use.MAKE,
        r"sklearn\.(base|calibration|cluster|compose|covariance|cross_decomposition|decomposition"
        r"|discriminant_analysis|dummy|ensemble|feature_extraction|feature_selection|frozen"
        r"|gaussian_process|impute|isotonic|kernel_approximation|kernel_ridge|linear_model|manifold"
        r"|mixture|model_selection|multiclass|multioutput|naive_bayes|neighbors|neural_network|pipeline"
        r"|preprocessing|random_projection|semi_supervised|svm|tree|_loss)(\.[a-z0-9_]+)*"
        r"|sklearn\.(metrics\._dist_metrics|utils\._metadata_requests)",
        _CLASS,
    ),
    (Use.CALL, r"sklearn\._loss\._loss|sklearn\.linear_model\._sgd_fast", _CLASS),
    (
        Use.CALL,
        r"sklearn(\.\w+)+|pandas\._libs\.\w+|numpy\.random\.\w+",
        r"__pyx_unpickle_[A-Z]\w*",
    ),
    (
        Use.NAME,
        r"sklearn\.metrics\._(classification|regression|ranking)",
        r"[a-z0-9_]+_(score|loss|error|deviance|coef|auc)",
    ),
    (
        Use.MAKE,
        r"scipy\.sparse\._?(csr|csc|coo|dia|bsr|lil|dok)",
        r"(csr|csc|coo|dia|bsr|lil|dok)_(matrix|array)",
    ),
    (Use.MAKE, r"scipy\.interpolate\._(interpolate|bsplines|cubic|fitpack2|polyint|rgi)", _CLASS),
    (
        Use.MAKE,
        r"pandas\.core\.(frame|series|indexes\.[a-z]+|internals\.(blocks|managers)|dtypes\.dtypes"
        r"|arrays\.[a-z_]+|arrays\.sparse\.[a-z_]+)",
        _CLASS,
    ),
    (Use.CALL, r"pandas\._libs\.tslibs\.offsets", _CLASS),
    (Use.MAKE, r"xgboost\.sklearn", r"XGB[A-Z]\w*"),
    (Use.MAKE, r"lightgbm\.sklearn", r"LGBM[A-Z]\w*"),
)
"""The classes of modules: what may be done with them, the modules, and how their names look."""

_COMPILED = tuple(
    (use, re.compile(modules), re.compile(names)) for use, modules, names in _FAMILIES
)
_TESTS = re.compile(r"\.(tests?|conftest|_testing)(\.|$)")
_SCRIPT = re.compile(r"__torch__(\.[A-Za-z0-9_]+)*")

_TORCH: dict[tuple[str, str], Use] = {
    **_named(
        Use.CALL,
        torch="Size device",
        torch___utils="_rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter"
        " _rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor",
        torch__jit___pickle="build_intlist build_tensorlist build_doublelist build_boollist"
        " build_tensor_from_id restore_type_tag",
    ),
    **_named(
        Use.NAME,
        torch="FloatStorage DoubleStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage"
        " CharStorage ByteStorage BoolStorage ComplexFloatStorage ComplexDoubleStorage UntypedStorage"
        " float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool complex64 complex128"
        " per_tensor_affine per_channel_affine strided sparse_coo",
        torch__storage="UntypedStorage TypedStorage",
    ),
}
"""In the archives that torch writes."""


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """The allow-list of one bundle.

    `extra` are names that the server's administrator allows for everything: `package.module.Name`, or
    `package.module.*` for all of a module. `own` are the modules of the bundle's own code.
    """

    extra: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()
    is_torch: bool = False
    is_script: bool = False

    def with_torch(self, *, is_script: bool) -> Allowed:
        """Also what torch writes into its archives; a script names its own classes, too."""
        return msgspec.structs.replace(self, is_torch=True, is_script=is_script)

    def may(self, use: Use, name: Name) -> bool:
        """Whether a pickle may do so."""
        return self._most(name) >= use

    def _most(self, name: Name) -> int:
        module = name.module.replace("numpy._core", "numpy.core")
        if self._is_extra(name):
            return Use.CALL
        exact = _EXACT.get((module, name.name))
        if exact is None and self.is_torch:
            exact = _TORCH.get((module, name.name))
        if exact is not None:
            return exact
        if self.is_script and _SCRIPT.fullmatch(module) and name.name.isidentifier():
            return Use.MAKE
        if _TESTS.search(module):
            return 0
        return max(
            (
                use
                for use, modules, names in _COMPILED
                if modules.fullmatch(module) and names.fullmatch(name.name)
            ),
            default=0,
        )

    def _is_extra(self, name: Name) -> bool:
        top = name.module.partition(".")[0]
        return top in self.own or f"{name.module}.{name.name}" in self.extra or (
            f"{name.module}.*" in self.extra
        )  # fmt: skip


def allowed(extra: Iterable[str] = (), *, own: Iterable[str] = ()) -> Allowed:
    """The allow-list with these names and these modules besides."""
    return Allowed(extra=frozenset(extra), own=frozenset(own))
