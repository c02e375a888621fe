"""What pickles try, each refused: by what they import, by how they do it, and by where they hide."""

import bz2
import gzip
import io
import lzma
import pickle as p
import re
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pickle_shapes import (
    EVIL,
    PLAIN,
    STOP,
    call_of,
    calls,
    framed,
    joblib_array,
    old_global,
    proto,
    short,
    stack_global,
)
from scanning import found_in, report_of

from shipway.bundles.scanning.bundle import Rules
from shipway.bundles.scanning.machine import BEGINNINGS
from shipway.core.bundles import Format
from shipway.core.scans import Danger, Substance

GADGETS = tuple(
    re.findall(
        r"\S+",
        """
os.system posix.system nt.system os.popen os.execv subprocess.Popen subprocess.check_output subprocess.run
builtins.eval builtins.exec builtins.compile builtins.getattr builtins.__import__ builtins.open builtins.breakpoint
builtins.globals builtins.setattr builtins.type builtins.map builtins.input builtins.super builtins.vars
pip.main pip._internal.main pip._internal.cli.main.main idlelib.pyshell.ModifiedInterpreter
idlelib.autocomplete.AutoComplete.get_entity idlelib.calltip.Calltip.fetch_tip idlelib.run.Executive
profile.run profile.Profile.runctx cProfile.run cProfile.runctx timeit.timeit timeit.Timer trace.Trace
pdb.run pdb.Pdb bdb.Bdb.run doctest.debug_script doctest.debug_src code.InteractiveInterpreter code.interact
codeop.compile_command asyncio.unix_events._UnixSubprocessTransport asyncio.create_subprocess_shell
ctypes.CDLL ctypes.PyDLL ctypes.util.find_library ctypes.cdll.LoadLibrary operator.attrgetter
operator.methodcaller operator.itemgetter functools.partial functools.reduce functools.partialmethod
importlib.import_module importlib._bootstrap._load runpy.run_path runpy.run_module runpy._run_code pty.spawn
webbrowser.open shutil.rmtree shutil.copyfile shelve.open pickle.loads pickle.Unpickler _pickle.loads
marshal.loads types.CodeType types.FunctionType logging.config.listen logging.FileHandler
multiprocessing.util.spawnv_passfds socket.create_connection socket.socket urllib.request.urlopen
http.client.HTTPConnection ftplib.FTP smtplib.SMTP telnetlib.Telnet sqlite3.connect distutils.spawn.spawn
distutils.file_util.write_file lib2to3.pgen2.grammar.Grammar.loads venv.create ensurepip.bootstrap
pydoc.pipepager pydoc.locate uuid._get_command_stdout site.execsitecustomize sys.setprofile sys.exit
threading.Thread weakref.finalize atexit.register signal.signal inspect.getsource linecache.getline
imaplib.IMAP4_stream test.support.script_helper.spawn_python cgitb.lookup zipimport.zipimporter
tempfile.NamedTemporaryFile pathlib.Path.write_text io.open _io.FileIO codecs.open fileinput.input
antigravity.webbrowser this.d copyreg.add_extension copyreg.__reduce_ex__ _codecs.lookup bdb.Bdb
torch.load torch.hub.load torch.jit.load torch.storage._load_from_bytes torch._utils._rebuild_from_type_v2
torch.utils.collect_env.run torch.utils.bottleneck.__main__.run_cprofile torch.fx.graph_module.reduce_graph_module
torch._dynamo.guards.GuardBuilder.get torch.serialization.load torch.ops.load_library
torch.utils._config_module.load_config torch.distributed.rpc.api.rpc_sync torch.utils.data.datapipes.utils.decoder.basichandlers
numpy.load numpy.memmap numpy.fromfile numpy.save numpy.savetxt numpy.f2py.crackfortran.getlincoef
numpy.f2py.compile numpy.testing._private.utils.runstring numpy.testing._private.utils.rundocs
numpy.distutils.exec_command.exec_command numpy.lib.npyio.NpzFile numpy.lib._npyio_impl.DataSource
numpy.ctypeslib.load_library numpy.core._internal.eval numpy.vectorize numpy.apply_along_axis
joblib.load joblib.numpy_pickle.load joblib.numpy_pickle.NDArrayWrapper joblib.numpy_pickle.ZNDArrayWrapper
joblib.memory.Memory joblib.memory.MemorizedFunc joblib.parallel.Parallel joblib.externals.cloudpickle.loads
cloudpickle.cloudpickle._make_function cloudpickle.cloudpickle._builtin_type cloudpickle.cloudpickle.subimport
dill._dill._create_code dill._dill._import_module sklearn.datasets.fetch_openml sklearn.datasets.load_files
sklearn.utils._testing.raises sklearn.utils._mocking.CheckingClassifier sklearn.utils.parallel.Parallel
sklearn.utils.fixes.parse_version sklearn.externals.joblib.load sklearn.base.os sklearn.base.warnings
sklearn.base.BaseEstimator.__init__ sklearn.pipeline.clone sklearn.compose._column_transformer._transform_one
sklearn.feature_extraction.text.re sklearn.tests.test_base.NaNTag sklearn.conftest.RUN
pandas.eval pandas.read_pickle pandas.read_csv pandas.HDFStore pandas.io.pickle.read_pickle
pandas.core.computation.eval.eval pandas.core.computation.expressions.evaluate pandas.core.frame.DataFrame.eval
pandas.io.common.get_handle pandas.compat.pickle_compat.load scipy.stats._distn_infrastructure.rv_frozen
scipy.stats._continuous_distns.norm_gen scipy.stats._distn_infrastructure.rv_continuous scipy.io.loadmat
scipy.LowLevelCallable scipy._lib._ccallback.CData xgboost.core.DMatrix xgboost.core.DataIter
xgboost.dask.train lightgbm.basic.Dataset lightgbm.basic._LIB mlflow.pyfunc.load_model
pyarrow.lib._restore_array pyarrow.fs.LocalFileSystem numba.core.serialize._rebuild_function
_frozen_importlib.BuiltinImporter nturl2path.url2pathname bpython.cli.main transformers.pipeline
__main__.run shipway.settings.read_settings shipway.store.sql.database.Database
""",
    )
)


@pytest.mark.parametrize("gadget", GADGETS)
def test_call_of_what_is_not_allowed_is_refused(tmp_path, gadget):
    module, _, name = gadget.rpartition(".")
    (first, *_) = found_in(tmp_path, calls(module, name))
    assert first.danger in (Danger.IMPORT, Danger.CALL)
    assert first.name == gadget
    assert first.file == "model/model.joblib"
    assert first.offset > 0


@pytest.mark.parametrize("protocol", range(6))
def test_protocols_of_all_ages_are_read(tmp_path, protocol):
    import os

    class Evil:
        def __reduce__(self):
            return os.system, ("id",)

    data = p.dumps({"model": [1, Evil()]}, protocol)
    assert {one.name for one in found_in(tmp_path, data)} == {"posix.system"}


NAMES = short("os") + p.MEMOIZE + p.POP + short("system") + p.MEMOIZE + p.POP
ARGUMENTS = short("id") + p.TUPLE1 + p.REDUCE + STOP
POPEN = stack_global("subprocess", "Popen")
BOOSTER = stack_global("xgboost.core", "Booster")

SHAPES = {
    "GLOBAL": EVIL + STOP,
    "GLOBAL of protocol 2": proto(2) + EVIL + STOP,
    "python 2's names": proto(2) + old_global("__builtin__", "eval") + ARGUMENTS,
    "python 2's names after the protocol changed": proto(4) + proto(2) + old_global("commands", "getoutput")
    + ARGUMENTS,
    "names from the memo": proto(4) + NAMES + p.BINGET + b"\0" + p.BINGET + b"\1" + p.STACK_GLOBAL + ARGUMENTS,
    "names from the memo by text": proto(4) + NAMES + p.GET + b"0\n" + p.GET + b"1\n" + p.STACK_GLOBAL + ARGUMENTS,
    "names from the memo by long numbers": proto(4) + short("os") + p.LONG_BINPUT + b"\x00\x00\x01\x00"
    + short("system") + p.LONG_BINPUT + b"\xff\xff\xff\x7f" + p.POP + p.POP + p.LONG_BINGET + b"\x00\x00\x01\x00"
    + p.LONG_BINGET + b"\xff\xff\xff\x7f" + p.STACK_GLOBAL + ARGUMENTS,
    "a name copied on the stack": proto(4) + short("code") + p.DUP + p.STACK_GLOBAL + ARGUMENTS,
    "names as long texts": proto(4) + p.BINUNICODE8 + struct.pack("<Q", 2) + b"os" + p.BINUNICODE
    + struct.pack("<I", 6) + b"system" + p.STACK_GLOBAL + ARGUMENTS,
    "names as escaped text": proto(4) + p.UNICODE + b"\\u006fs\n" + p.STRING + b"'s\\x79stem'\n"
    + p.STACK_GLOBAL + ARGUMENTS,
    "names as old texts": proto(4) + p.SHORT_BINSTRING + b"\2os" + p.BINSTRING + struct.pack("<i", 6)
    + b"system" + p.STACK_GLOBAL + ARGUMENTS,
    "INST": p.MARK + short("id") + p.INST + b"os\nsystem\n" + STOP,
    "INST without a mark": p.INST + b"antigravity\nfly\n" + STOP,
    "INST without arguments": p.MARK + p.INST + b"subprocess\nPopen\n" + STOP,
    "OBJ": p.MARK + old_global("os", "system") + short("id") + p.OBJ + STOP,
    "NEWOBJ": proto(2) + POPEN + p.EMPTY_TUPLE + p.NEWOBJ + STOP,
    "NEWOBJ_EX": proto(4) + POPEN + p.EMPTY_TUPLE + p.EMPTY_DICT + p.NEWOBJ_EX + STOP,
    "BUILD of a stranger": proto(2) + POPEN + p.EMPTY_TUPLE + p.NEWOBJ + p.EMPTY_DICT + p.BUILD + STOP,
    "import alone": old_global("antigravity", "fly") + STOP,
    "import dropped again": old_global("os", "system") + p.POP + p.NONE + STOP,
    "call behind a bad end": EVIL + b"\xff\xff",
    "call and no end": EVIL,
    "call and half an instruction": EVIL + p.BINUNICODE + b"\xff\xff",
    "call behind a POP of nothing": proto(4) + EVIL + p.POP + p.POP,
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_way_to_import_is_seen(tmp_path, shape):
    assert found_in(tmp_path, shape)[0].danger is Danger.IMPORT


def test_names_of_python_2_are_read_as_python_3_reads_them(tmp_path):
    data = proto(2) + old_global("__builtin__", "eval") + ARGUMENTS
    assert {one.name for one in found_in(tmp_path / "a", data)} == {"builtins.eval"}
    sound = proto(2) + old_global("__builtin__", "set") + p.EMPTY_TUPLE + p.REDUCE + STOP
    assert found_in(tmp_path / "b", sound) == ()


RECONSTRUCTOR = stack_global("copyreg", "_reconstructor")
OBJECT = stack_global("builtins", "object")
EYE = stack_global("sklearn.linear_model._logistic", "LogisticRegression")

ALLOWED_BUT = {
    "a number from copyreg (EXT1)": proto(2) + p.EXT1 + b"\1" + ARGUMENTS,
    "a number from copyreg (EXT2)": proto(2) + p.EXT2 + b"\1\1" + ARGUMENTS,
    "a number from copyreg (EXT4)": proto(2) + p.EXT4 + b"\1\0\0\0" + ARGUMENTS,
    "a name that a call computes": proto(4) + call_of(stack_global("builtins", "str"), short("os"))
    + short("system") + p.STACK_GLOBAL + ARGUMENTS,
    "a name that is bytes": proto(4) + p.SHORT_BINBYTES + b"\2os" + short("system") + p.STACK_GLOBAL + ARGUMENTS,
    "a name too long to keep": proto(4) + p.BINUNICODE + struct.pack("<I", 2000) + b"o" * 2000 + short("system")
    + p.STACK_GLOBAL + ARGUMENTS,
    "a class called": proto(4) + EYE + ARGUMENTS,
    "a class called by OBJ": p.MARK + old_global("xgboost.core", "Booster") + short("f") + p.OBJ + STOP,
    "a function of numbers called": proto(4) + stack_global("numpy", "log1p") + ARGUMENTS,
    "a function made": proto(4) + stack_global("numpy", "log1p") + p.EMPTY_TUPLE + p.NEWOBJ + STOP,
    "a result called": proto(4) + call_of(stack_global("builtins", "str"), short("x")) + ARGUMENTS,
    "an instance called": proto(4) + EYE + p.EMPTY_TUPLE + p.NEWOBJ + ARGUMENTS,
    "a result made": proto(4) + call_of(stack_global("builtins", "str")) + p.EMPTY_TUPLE + p.NEWOBJ + STOP,
    "a class patched by BUILD": proto(4) + BOOSTER + p.NONE + p.EMPTY_DICT + p.TUPLE2 + p.BUILD + STOP,
    "a function patched by BUILD": proto(4) + stack_global("numpy", "log1p") + p.EMPTY_DICT + p.BUILD + STOP,
    "a class patched by SETITEM": proto(4) + BOOSTER + short("a") + p.NONE + p.SETITEM + STOP,
    "a class patched by SETITEMS": proto(4) + BOOSTER + p.MARK + short("a") + p.NONE + p.SETITEMS + STOP,
    "a class appended to": proto(4) + BOOSTER + p.NONE + p.APPEND + STOP,
    "a class extended": proto(4) + BOOSTER + p.MARK + p.NONE + p.APPENDS + STOP,
    "a class added to": proto(4) + BOOSTER + p.MARK + p.NONE + p.ADDITEMS + STOP,
    "plain data built": proto(4) + p.EMPTY_LIST + p.EMPTY_DICT + p.BUILD + STOP,
    "a reference to outside": proto(4) + short("x") + p.BINPERSID + STOP,
    "a reference to outside by text": p.PERSID + b"x\n" + STOP,
    "an import by numpy": proto(4) + call_of(
        stack_global("numpy.core", "_ufunc_reconstruct"), short("os"), short("system")) + ARGUMENTS,
    "an import by numpy 2": proto(4) + call_of(
        stack_global("numpy._core", "_ufunc_reconstruct"), short("os"), short("system")) + STOP,
    "an import by numpy of what is computed": proto(4) + call_of(
        stack_global("numpy.core", "_ufunc_reconstruct"),
        call_of(stack_global("builtins", "str"), short("os")), short("system")) + STOP,
    "a codec of its own": proto(2) + call_of(stack_global("_codecs", "encode"), short("x"), short("zip")) + STOP,
    "copyreg making a function": p.MARK + call_of(
        RECONSTRUCTOR, stack_global("numpy", "log1p"), OBJECT, p.NONE) + STOP,
    "copyreg with a base of its own": call_of(RECONSTRUCTOR, EYE, stack_global("numpy", "log1p"), p.NONE) + STOP,
    "copyreg's newobj of a function": proto(2) + call_of(
        stack_global("copyreg", "__newobj__"), stack_global("numpy", "log1p")) + STOP,
    "numpy's generator calling a class": proto(4) + call_of(
        stack_global("numpy.random._pickle", "__generator_ctor"), short("f"), BOOSTER) + STOP,
    "numpy's array of a stranger": proto(4) + call_of(
        stack_global("numpy.core.multiarray", "_reconstruct"), BOOSTER, p.EMPTY_TUPLE, p.NONE) + STOP,
    "a tree's node of a stranger": proto(4) + call_of(
        stack_global("sklearn.neighbors._kd_tree", "newObj"), BOOSTER) + STOP,
    "an index of a stranger": proto(4) + call_of(
        stack_global("pandas.core.indexes.base", "_new_Index"), BOOSTER, p.EMPTY_DICT) + STOP,
    "cython's unpickling of a stranger": proto(4) + call_of(
        stack_global("sklearn._loss._loss", "__pyx_unpickle_CyHalfBinomialLoss"), BOOSTER) + STOP,
    "a default made by a function": proto(4) + call_of(
        stack_global("collections", "defaultdict"), stack_global("numpy", "log1p")) + STOP,
    "arguments that are no tuple": proto(4) + stack_global("copyreg", "__newobj__") + p.EMPTY_LIST + p.REDUCE + STOP,
}  # fmt: skip


@pytest.mark.parametrize("number", [p.EXT1 + b"\1", p.EXT2 + b"\1\1", p.EXT4 + b"\1\0\0\0"])
def test_number_from_copyreg_is_an_import(tmp_path, number):
    assert found_in(tmp_path, proto(2) + number + STOP)[0].danger is Danger.IMPORT


@pytest.mark.parametrize("shape", ALLOWED_BUT.values(), ids=ALLOWED_BUT)
def test_allowed_names_are_no_way_around(tmp_path, shape):
    assert found_in(tmp_path, shape)[0].danger in (Danger.IMPORT, Danger.CALL)


UNFOLLOWABLE = {
    "an unknown instruction": proto(4) + b"\xfe",
    "a protocol of the future": proto(9) + p.NONE + STOP,
    "nothing behind the mark": proto(4),
    "a mark that is not there": proto(4) + p.NONE + p.TUPLE + STOP,
    "an empty memo": proto(4) + p.BINGET + b"\5" + STOP,
    "a negative place": p.NONE + p.PUT + b"-1\n" + STOP,
    "a text without end": proto(4) + p.BINUNICODE8 + struct.pack("<Q", 1 << 60),
    "a buffer outside": proto(5) + p.NEXT_BUFFER + STOP,
    "a key without value": proto(4) + p.EMPTY_DICT + p.MARK + p.NONE + p.SETITEMS + STOP,
    "an array of negative size": joblib_array(b"x" * 8, shape=(-1,)) + EVIL + STOP,
    "an array past the end": joblib_array(b"x" * 8, shape=(1 << 20,)),
    "an array larger than any": joblib_array(b"x" * 8, shape=(1 << 30, 1 << 30)),
    "an array with much padding": joblib_array(b"x" * 8 + STOP, padding=b"\x20" + b"\xff" * 32),
    "an array of an unknown dtype": joblib_array(b"x" * 8, dtype="f8,O"),
    "an array with attributes": joblib_array(b"x" * 8 + STOP, extra=short("read") + p.NONE),
    "an array within a frame": joblib_array(STOP, framed_over=b"\0" * 8, alignment=False),
}


@pytest.mark.parametrize("shape", UNFOLLOWABLE.values(), ids=UNFOLLOWABLE)
def test_what_cannot_be_followed_is_refused(tmp_path, shape):
    assert Danger.UNREADABLE in {one.danger for one in found_in(tmp_path, shape)}


def npy(data: bytes, descr: str = "|O") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def object_array(inner: bytes) -> bytes:
    return joblib_array(inner, dtype="O8", alignment=False)


HIDDEN = {
    "behind a sound pickle": ("model.joblib", PLAIN + calls("os", "system")),
    "behind a sound pickle, without a mark": ("model.joblib", PLAIN + EVIL + STOP),
    "behind two sound pickles": ("model.pkl", PLAIN + PLAIN + calls("os", "system")),
    "behind other bytes": ("weights.bin", b"\0" * 5000 + calls("os", "system")),
    "behind other bytes, of protocol 0": ("weights.bin", b"\0" * 5000 + EVIL + STOP),
    "behind other bytes, of protocol 4 without a mark": (
        "weights.bin", b"\0" * 5000 + stack_global("os", "system") + ARGUMENTS),
    "across the windows of the search": ("weights.bin", b"\0" * ((4 << 20) - 7) + calls("os", "system")),
    "in the bytes of a pickle": (
        "model.pkl", p.dumps({"note": b"....." + calls("os", "system")})),
    "under a text's name": ("notes.txt", calls("os", "system")),
    "under JSON's name": ("config.json", calls("os", "system")),
    "under JSON's name, of protocol 0": ("config.json", EVIL + STOP),
    "under no name": ("LICENSE", EVIL + STOP),
    "in an array file": ("data.npy", npy(calls("os", "system"))),
    "in an array file of records": ("data.npy", npy(calls("os", "system"), "[('a', '|O')]")),
    "in joblib's array of objects": ("model.joblib", object_array(calls("os", "system"))),
    "in what joblib skips and pickle does not": (
        "model.pkl", joblib_array(EVIL + STOP, shape=(len(EVIL) + 1,), dtype="i1", alignment=False)),
    "in what joblib reads before an array": (
        "model.joblib", joblib_array(b"x" * 8 + STOP, framed_over=p.POP + EVIL)),
    "zlib": ("model.joblib", zlib.compress(calls("os", "system"))),
    "zlib, stored": ("model.joblib", zlib.compress(calls("os", "system"), 0)),
    "zlib in two streams": (
        "model.joblib", zlib.compress(proto(4) + p.NONE) + zlib.compress(EVIL + STOP)),
    "gzip": ("model.joblib", gzip.compress(calls("os", "system"))),
    "gzip in two members": ("model.pkl", gzip.compress(proto(4) + p.NONE) + gzip.compress(EVIL + STOP)),
    "bz2": ("model.joblib", bz2.compress(calls("os", "system"))),
    "xz": ("model.joblib", lzma.compress(calls("os", "system"))),
    "lzma": ("model.joblib", lzma.compress(calls("os", "system"), lzma.FORMAT_ALONE)),
    "gzip in gzip": ("model.joblib", gzip.compress(gzip.compress(calls("os", "system")))),
    "gzip under a text's name": ("readme.md", gzip.compress(calls("os", "system"))),
    "gzip that ends early": ("model.joblib", gzip.compress(calls("os", "system") + np.random.default_rng(0).bytes(9000))[:-900]),
}  # fmt: skip


@pytest.mark.parametrize(("name", "data"), HIDDEN.values(), ids=HIDDEN)
def test_pickle_is_found_where_it_hides(tmp_path, name, data):
    found = found_in(tmp_path, data, name=name)
    assert {"os.system"} <= {one.name for one in found}


def test_bundle_of_many_files_is_read_to_the_last(tmp_path):
    files = {f"model/{n}.txt": b"nothing" for n in range(20)} | {"zzz/last": calls("os", "system")}
    assert [one.file for one in report_of(tmp_path, files).findings] == ["zzz/last"]


def test_findings_name_the_byte_behind_the_instruction(tmp_path):
    data = b"\0" * 5000 + calls("os", "system")
    (found,) = found_in(tmp_path, data, name="w.bin")
    assert found.offset == len(data) - 1


def test_texts_in_findings_cannot_move_the_cursor(tmp_path):
    (found, *_) = found_in(tmp_path, calls("os\x1b[2J\r\n", "sys\u202etem"))
    assert all(char.isprintable() for char in found.line)


def test_number_of_findings_is_bounded(tmp_path):
    body = b"".join(old_global(f"m{n}", "x") + p.POP for n in range(500))
    assert len(found_in(tmp_path, body + p.NONE + STOP)) == 50


def test_administrator_adds_names_and_modules(tmp_path):
    data = framed(
        stack_global("mine.models", "Net") + p.EMPTY_TUPLE + p.NEWOBJ
        + p.POP + stack_global("other", "make") + ARGUMENTS
    )  # fmt: skip
    rules = Rules(imports=("mine.models.*", "other.make"))
    assert found_in(tmp_path / "a", data, rules=rules) == ()
    assert {one.name for one in found_in(tmp_path / "b", data)} == {"mine.models.Net", "other.make"}
    narrow = Rules(imports=("mine.*", "other"))
    assert len(found_in(tmp_path / "c", data, rules=narrow)) == 2


def test_pickle_may_name_the_modules_that_come_with_it_and_is_code_then(tmp_path):
    data = framed(stack_global("pricing", "Model") + p.EMPTY_TUPLE + p.NEWOBJ + STOP)
    files = {"model/m.pkl": data, "model/code/pricing.py": b"class Model: ..."}
    report = report_of(tmp_path / "a", files, options={"code": "code"})
    assert (report.findings, report.substance) == ((), Substance.CODE)
    assert not report.is_clean
    alone = report_of(tmp_path / "b", {"model/m.pkl": data})
    assert [one.name for one in alone.findings] == ["pricing.Model"]
    disguised = {"model/m.pkl": calls("os", "system"), "model/code/os.py": b""}
    found = report_of(tmp_path / "c", disguised, options={"code": "code"}).findings
    assert [one.name for one in found] == ["os.system"]


def test_what_is_no_pickle_is_no_danger(tmp_path):
    for number, data in enumerate((b"", b"not a model, but bytes", b"\0\1\2", "ünïcode".encode())):
        assert found_in(tmp_path / str(number), data, name="model.bin") == ()


@pytest.mark.parametrize("tail", [b"", b"\0" * 20, b"0\n0\n." * 5])
def test_what_no_pickle_begins_with_fails_before_anything_runs(tail):
    for first in set(range(256)) - BEGINNINGS:
        for unpickler in (p.Unpickler, p._Unpickler):
            with pytest.raises(
                (p.UnpicklingError, EOFError, IndexError, KeyError, ValueError, struct.error)
            ):
                unpickler(io.BytesIO(bytes([first]) + tail)).load()


def test_arrays_of_joblib_are_skipped_whatever_is_in_them(tmp_path):
    import joblib

    evil = np.frombuffer(EVIL + STOP + b"\0" * 7, dtype=np.uint8)
    arrays = [np.arange(7.0), np.array(["a", "bb"]), np.zeros((0, 3)), np.float32(2), np.array(3),
              np.array([None, "x"], dtype=object), np.asfortranarray(np.eye(3)),
              np.array(["2020-01-01"], dtype="M8[D]"),
              np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])]  # fmt: skip
    for compress in (0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)):
        buffer = io.BytesIO()
        joblib.dump({"all": arrays, "again": arrays[0]}, buffer, compress=compress)
        directory = tmp_path / str(compress)
        assert found_in(directory, buffer.getvalue()) == (), compress
    buffer = io.BytesIO()
    joblib.dump(evil, buffer)
    assert found_in(tmp_path / "evil", buffer.getvalue()) == ()


def test_python_format_is_marked_as_code(tmp_path):
    files = {"model/model.py": b"import os", "model/weights.pkl": calls("os", "system")}
    report = report_of(tmp_path, files, format=Format.PYTHON, artifact="model")
    assert report.substance is Substance.CODE
    assert [one.name for one in report.findings] == ["os.system"]
