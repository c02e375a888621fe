"""The artifact store's laws, the same on a directory and on S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import obstore
import pytest

from shipway.core.bundles import Manifest
from shipway.core.errors import BundleCorrupt, StateUnusable, StoreUnavailable
from shipway.engines.bundle import verified_manifest
from shipway.store.objects.artifacts import ArtifactStore
from shipway.testing.bundles import write_bundle
from shipway.testing.servers import free_port

FILES = {
    "model/model.bin": bytes(range(256)) * 1000,
    "model/code/a b#ü%20.py": b"x = 1",
    "examples.json": b"{}",
    "empty": b"",
}


@pytest.fixture
def manifest(artifacts: ArtifactStore, tmp_path: Path) -> Manifest:
    made = write_bundle(tmp_path / "bundle", files=FILES)
    artifacts.put_bundle(tmp_path / "bundle", made)
    return made


def test_bundle_comes_back_byte_for_byte(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    directory = artifacts.materialise(manifest.digest, tmp_path / "cache")
    assert verified_manifest(directory, manifest.digest) == manifest
    for path, data in FILES.items():
        assert (directory / path).read_bytes() == data
    assert artifacts.materialise(manifest.digest, tmp_path / "cache") == directory
    in_place = artifacts.directory is not None
    assert directory.is_relative_to(tmp_path / "cache") is not in_place


def test_large_file_is_stored_in_parts_and_comes_back_whole(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    data = bytes(range(256)) * 50_000
    manifest = write_bundle(tmp_path / "bundle", files={"model.bin": data})
    artifacts.put_bundle(tmp_path / "bundle", manifest)
    assert artifacts.holds(manifest)
    directory = artifacts.materialise(manifest.digest, tmp_path / "cache")
    assert verified_manifest(directory) == manifest


@pytest.mark.parametrize("place", ["postgresql+s3"], indirect=True)
def test_cached_copy_that_lost_bytes_is_fetched_again(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    directory = artifacts.materialise(manifest.digest, tmp_path / "cache")
    (directory / "model/model.bin").write_bytes(b"")
    assert artifacts.materialise(manifest.digest, tmp_path / "cache") == directory
    assert verified_manifest(directory) == manifest
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


def test_bundle_is_there_only_once_its_manifest_is(
    artifacts: ArtifactStore, tmp_path: Path
) -> None:
    manifest = write_bundle(tmp_path / "bundle", files=FILES)
    (tmp_path / "bundle" / "shipway.json").unlink()
    with pytest.raises(StoreUnavailable):
        artifacts.put_bundle(tmp_path / "bundle", manifest)
    assert not artifacts.has(manifest.digest)
    assert not artifacts.holds(manifest)
    assert list(artifacts.digests()) == [manifest.digest]
    with pytest.raises(BundleCorrupt):
        artifacts.materialise(manifest.digest, tmp_path / "cache")


def test_deleted_bundle_leaves_nothing_and_deleting_it_again_is_fine(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    artifacts.delete(manifest.digest)
    artifacts.delete(manifest.digest)
    assert not artifacts.has(manifest.digest)
    assert artifacts.digests() == {}
    with pytest.raises(BundleCorrupt, match="not in the artifact store"):
        artifacts.materialise(manifest.digest, tmp_path / "cache")


@pytest.mark.parametrize("digest", ["sha256:../../x", "", "sha256:", "sha256:" + "0" * 64])
def test_digest_of_nothing_is_not_there(artifacts: ArtifactStore, digest: str) -> None:
    assert not artifacts.has(digest)


def test_changed_byte_is_refused_before_use_naming_the_file(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    key = f"bundles/{manifest.digest.removeprefix('sha256:')}/model/model.bin"
    data = bytearray(FILES["model/model.bin"])
    data[777] ^= 1
    obstore.put(artifacts._store, key, bytes(data))
    with pytest.raises(BundleCorrupt, match=r"`model/model\.bin`"):
        verified_manifest(artifacts.materialise(manifest.digest, tmp_path / "cache"))
    assert list((tmp_path / "cache").rglob("shipway.json")) == []


def test_file_missing_in_the_store_is_refused(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    key = f"bundles/{manifest.digest.removeprefix('sha256:')}/examples.json"
    obstore.delete(artifacts._store, key)
    assert not artifacts.holds(manifest)
    with pytest.raises(BundleCorrupt):
        verified_manifest(artifacts.materialise(manifest.digest, tmp_path / "cache"))


def test_many_that_fetch_one_bundle_at_once_all_get_it_whole(
    artifacts: ArtifactStore, manifest: Manifest, tmp_path: Path
) -> None:
    def fetch(_: int) -> Path:
        return artifacts.materialise(manifest.digest, tmp_path / "cache")

    with ThreadPoolExecutor(6) as pool:
        directories = set(pool.map(fetch, range(12)))
    (directory,) = directories
    assert verified_manifest(directory) == manifest
    assert [path.name for path in directory.parent.iterdir()] == [directory.name]


@pytest.mark.parametrize("place", ["sqlite+directory"], indirect=True)
def test_file_url_means_the_directory(place: Any, manifest: Manifest) -> None:
    by_url = ArtifactStore(Path(place.artifacts_url).as_uri())
    assert by_url.holds(manifest)


def test_store_that_does_not_answer_is_store_unavailable() -> None:
    environment = {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}",
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1",
    }
    away = ArtifactStore("s3://bucket/prefix", environment=environment)
    with pytest.raises(StoreUnavailable, match="s3://bucket/prefix"):
        away.has("sha256:" + "0" * 64)


@pytest.mark.parametrize("place", ["postgresql+s3"], indirect=True)
def test_wrong_key_is_store_unavailable_and_tells_no_secret(place: Any) -> None:
    environment = {**place.environment, "AWS_SECRET_ACCESS_KEY": "wrong-secret"}
    refused = ArtifactStore(place.artifacts_url, environment=environment)
    with pytest.raises(StoreUnavailable) as caught:
        refused.has("sha256:" + "0" * 64)
    assert "wrong-secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["ftp://host/path", "s3://", "http://"])
def test_url_of_no_store_is_refused_in_words(url: str) -> None:
    with pytest.raises(StoreUnavailable, match="not an artifact store"):
        ArtifactStore(url)


def test_directory_below_a_file_is_state_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StateUnusable, match="cannot be used"):
        ArtifactStore(str(tmp_path / "file" / "artifacts"))
