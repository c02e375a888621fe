"""Tar archives that are uploaded: what is written, and what is refused before anything is."""

import io
import tarfile

import pytest

from shipway.api.uploads import ChunkSource, UploadLimits, unpack
from shipway.core.errors import BodyTooLarge, InvalidRequest

LIMITS = UploadLimits(max_files=5, max_bytes=1000)


def tar(*members, form=tarfile.PAX_FORMAT, errors="surrogateescape"):
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w", format=form, errors=errors) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return body.getvalue()


def member(name, data=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


def unpacked(body, directory):
    chunks = iter([body[i : i + 100] for i in range(0, len(body), 100)])
    unpack(ChunkSource(lambda: next(chunks, b"")), directory, LIMITS)


HOSTILE = {
    "above": tar(member("../x")),
    "above, later": tar(member("a/../../x")),
    "absolute": tar(member("/x")),
    "this directory": tar(member("a/./x")),
    "an empty part": tar(member("a//x")),
    "backslashes": tar(member("..\\x")),
    "a symbolic link": tar(member("x", b"", tarfile.SYMTYPE, "/etc/passwd")),
    "a hard link": tar(member("a"), member("x", b"", tarfile.LNKTYPE, "a")),
    "a device": tar(member("x", b"", tarfile.CHRTYPE)),
    "a block device": tar(member("x", b"", tarfile.BLKTYPE)),
    "a pipe": tar(member("x", b"", tarfile.FIFOTYPE)),
    "a file twice": tar(member("a"), member("a")),
    "a file below a file": tar(member("a"), member("a/b")),
    "a name that is not UTF-8": tar(member("a\udcff"), form=tarfile.GNU_FORMAT),
    "a name with a line's end": tar(member("a\nb")),
    "a name that moves the cursor": tar(member("a\x1b[2Jb")),
    "a name read from right to left": tar(member("a\u202eb")),
    "a long name": tar(member("a/" * 600 + "b")),
    "a long part": tar(member("a" * 300)),
    "nothing of the kind": b"GIF89a" * 400,
    "half of it": tar(member("a", b"x" * 600))[:700],
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_hostile_archive_is_refused_in_plain_words(tmp_path, body):
    inside = tmp_path / "in"
    inside.mkdir()
    with pytest.raises(InvalidRequest) as caught:
        unpacked(body, inside)
    assert caught.value.message.isprintable()
    assert caught.value.message.encode()
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    assert not [path for path in inside.rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    "body",
    [tar(*(member(str(n)) for n in range(6))), tar(member("a", b"x" * 1001)),
     tar(member("a", b"x" * 600), member("b", b"x" * 600))],
    ids=["files", "one file", "all files"],
)  # fmt: skip
def test_archive_over_its_bounds_is_refused(tmp_path, body):
    with pytest.raises(BodyTooLarge):
        unpacked(body, tmp_path)


def test_sound_archive_is_written_as_it_is(tmp_path):
    body = tar(member(".", b"", tarfile.DIRTYPE), member("model", b"", tarfile.DIRTYPE),
               member("model/größe.bin", b"12"), member("shipway.json", b"{}"))  # fmt: skip
    unpacked(body, tmp_path)
    assert (tmp_path / "model/größe.bin").read_bytes() == b"12"
    assert (tmp_path / "shipway.json").read_bytes() == b"{}"
