"""Archives that two readers would read differently, that unfold into too much, or that hide something."""

import gzip
import io
import lzma
import struct
import sys
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from pickle_shapes import PLAIN, calls, framed, short, stack_global
from scanning import found_in, report_of

from shipway.bundles.scanning import zips
from shipway.core.bundles import Format
from shipway.core.scans import Danger

EVIL = calls("os", "system")
ZEROS = b"\0" * (40 << 20)


def zipped(entries, *, compression=zipfile.ZIP_STORED, comment=b"") -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore")
        for name, data in entries:
            archive.writestr(name, data)
        archive.comment = comment
    return buffer.getvalue()


def entry(name, *, mode=0, flags=0):
    info = zipfile.ZipInfo(name)
    info.external_attr = mode << 16
    info.flag_bits = flags
    return info


def with_nul(data: bytes) -> bytes:
    return data.replace(b"a/data.pkl", b"a/data\0pkl")


def patched(data: bytes, offset: int, new: bytes, *, directory: bool) -> bytes:
    """The archive with bytes replaced in its first local header, or in its directory."""
    at = (data.index(b"PK\x01\x02") if directory else 0) + offset
    return data[:at] + new + data[at + len(new) :]


SOUND = zipped([("a/data.pkl", PLAIN), ("a/version", b"3\n")])
TWO = zipped([("a/data.pkl", EVIL), ("a/version", b"3\n")])
NESTED = SOUND
for _ in range(5):
    NESTED = zipped([("a/inner.zip", NESTED)])
FOLDED = gzip.compress(EVIL)
for _ in range(6):
    FOLDED = gzip.compress(FOLDED)

REFUSED = {
    "a path out of it": (zipped([("../../etc/cron.d/x", b"")]), Danger.ARCHIVE),
    "an absolute path": (zipped([("/etc/cron.d/x", b"")]), Danger.ARCHIVE),
    "a path with backslashes": (zipped([(entry("a\\..\\..\\x"), b"")]), Danger.ARCHIVE),
    "a name that a NUL cuts": (with_nul(SOUND), Danger.ARCHIVE),
    "a name longer than any": (zipped([("a" * 2000, b"")]), Danger.ARCHIVE),
    "a symbolic link": (zipped([(entry("a", mode=0o120777), b"/etc/passwd")]), Danger.ARCHIVE),
    "a device": (zipped([(entry("a", mode=0o060666), b"")]), Danger.ARCHIVE),
    "a name twice": (zipped([("a/data.pkl", PLAIN), ("a/data.pkl", EVIL)]), Danger.ARCHIVE),
    "an encrypted entry": (patched(patched(SOUND, 8, b"\x01", directory=True), 6, b"\x01", directory=False), Danger.ARCHIVE),
    "an entry encrypted in its own header": (patched(SOUND, 6, b"\x01", directory=False), Danger.ARCHIVE),
    "an unknown compression": (patched(patched(SOUND, 10, b"\x5f", directory=True), 8, b"\x5f", directory=False), Danger.ARCHIVE),
    "bz2 within": (zipped([("a", b"x" * 99)], compression=zipfile.ZIP_BZIP2), Danger.ARCHIVE),
    "lzma within": (zipped([("a", b"x" * 99)], compression=zipfile.ZIP_LZMA), Danger.ARCHIVE),
    "another name in the own header": (SOUND.replace(b"a/data.pkl", b"a/evil.pkl", 1), Danger.ARCHIVE),
    "other sizes in the own header": (patched(SOUND, 18, b"\xff", directory=False), Danger.ARCHIVE),
    "another compression in the own header": (patched(SOUND, 8, b"\x08", directory=False), Danger.ARCHIVE),
    "no own header": (patched(SOUND, 0, b"PK\x03\x05", directory=False), Danger.ARCHIVE),
    "bytes before it": (EVIL + SOUND, Danger.ARCHIVE),
    "bytes behind it": (SOUND + EVIL, Danger.ARCHIVE),
    "a comment": (zipped([("a", b"")], comment=EVIL), Danger.ARCHIVE),
    "another archive before it": (SOUND + zipped([("b", b"")]), Danger.ARCHIVE),
    "a wrong checksum": (SOUND.replace(PLAIN, PLAIN[:-1] + b"}", 1), Danger.UNREADABLE),
    "no directory": (SOUND[:80], Danger.UNREADABLE),
    "half a directory": (SOUND[:-30], Danger.UNREADABLE),
    "entries that overlap": (
        SOUND.replace(struct.pack("<I", 30 + 10 + len(PLAIN)) + b"a/version", b"\0\0\0\0a/version"),
        Danger.BOMB,
    ),
    "an entry that unfolds into too much": (
        zipped([("a", b"\0" * (40 << 20))], compression=zipfile.ZIP_DEFLATED), Danger.BOMB),
    "archives within archives": (NESTED, Danger.BOMB),
    "a pickle within": (TWO, Danger.IMPORT),
    "a second pickle within": (zipped([("a/data.pkl", PLAIN), ("a/extra.bin", EVIL)]), Danger.IMPORT),
    "a pickle in an archive within": (zipped([("a/w.pt", TWO)]), Danger.IMPORT),
    "a compressed pickle within": (zipped([("a/w", gzip.compress(EVIL))]), Danger.IMPORT),
    "a pickle of numpy's": (zipped([("x.npy", b"\x93NUMPY\x01\x00\x0d\x00{'descr':'|O'" + EVIL)]), Danger.IMPORT),
    "gzip in gzip in gzip": (FOLDED, Danger.BOMB),
    "gzip that unfolds into too much": (lambda: gzip.compress(ZEROS, 1), Danger.BOMB),
    "zlib that unfolds into too much": (lambda: zlib.compress(ZEROS, 1), Danger.BOMB),
    "xz that unfolds into too much": (lambda: lzma.compress(ZEROS, preset=0), Danger.BOMB),
    "7z": (b"7z\xbc\xaf\x27\x1c" + b"\0" * 40, Danger.ARCHIVE),
    "RAR": (b"Rar!\x1a\x07\x01\x00" + b"\0" * 40, Danger.ARCHIVE),
    "Zstandard": (b"\x28\xb5\x2f\xfd" + b"\0" * 40, Danger.ARCHIVE),
    "LZ4": (b"\x04\x22\x4d\x18" + b"\0" * 40, Danger.ARCHIVE),
    "joblib's oldest compression": (b"ZF0x10" + b"\0" * 40, Danger.ARCHIVE),
    "machine code for Linux": (b"\x7fELF\2\1\1" + b"\0" * 40, Danger.NATIVE),
    "machine code for macOS": (b"\xcf\xfa\xed\xfe" + b"\0" * 40, Danger.NATIVE),
    "machine code for Windows": (b"MZ\x90" + b"\0" * 75 + b"This program cannot be run", Danger.NATIVE),
}  # fmt: skip


@pytest.mark.parametrize(("data", "danger"), REFUSED.values(), ids=REFUSED)
def test_archive_is_refused(tmp_path, data, danger):
    content = data() if callable(data) else data
    found = found_in(tmp_path, content, name="weights.pt", format=Format.TORCHSCRIPT)
    assert danger in {one.danger for one in found}


def test_number_of_entries_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(zips, "MOST_ENTRIES", 10)
    data = zipped([(str(n), b"") for n in range(11)])
    found = found_in(tmp_path, data, name="weights.pt", format=Format.TORCHSCRIPT)
    assert [one.danger for one in found] == [Danger.BOMB]


def test_tar_within_is_refused(tmp_path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("x"), io.BytesIO())
    found = found_in(tmp_path, buffer.getvalue(), name="weights.nemo", format=Format.TORCHSCRIPT)
    assert [one.danger for one in found] == [Danger.ARCHIVE]


@pytest.mark.parametrize("suffix", ["so", "pyd", "pyc", "pth", "egg", "whl", "dll"])
def test_files_that_python_would_run_or_install_are_refused(tmp_path, suffix):
    files = {"model/model.bin": b"", f"model/x.{suffix}": b"import os"}
    assert [one.danger for one in report_of(tmp_path, files).findings] == [Danger.NATIVE]


def test_findings_name_the_entry(tmp_path):
    (found, *_) = found_in(tmp_path, TWO, name="w.pt", format=Format.TORCHSCRIPT)
    assert found.file == "model/w.pt!a/data.pkl"


def test_what_torch_writes_is_allowed_in_its_archives_alone(tmp_path):
    rebuild = stack_global("torch._utils", "_rebuild_tensor_v2")
    reference = short("storage") + b"Q"
    data = framed(rebuild + b"(" + reference + b"t" + b"R.", protocol=2)
    inside = zipped([("a/data.pkl", data)])
    assert found_in(tmp_path / "a", inside, name="w.pt", format=Format.TORCHSCRIPT) == ()
    assert found_in(tmp_path / "b", data, name="w.pkl") != ()


def test_classes_of_a_script_are_allowed_beside_its_code_alone(tmp_path):
    data = framed(stack_global("__torch__.Net", "Net") + b")\x81.", protocol=2)
    script = zipped([("a/data.pkl", data), ("a/code/__torch__.py", b"")])
    weights = zipped([("a/data.pkl", data)])
    assert found_in(tmp_path / "a", script, name="w.pt", format=Format.TORCHSCRIPT) == ()
    assert found_in(tmp_path / "b", weights, name="w.pt", format=Format.TORCHSCRIPT) != ()


def test_sound_archive_is_let_in(tmp_path):
    assert found_in(tmp_path, SOUND, name="w.pt", format=Format.TORCHSCRIPT) == ()
