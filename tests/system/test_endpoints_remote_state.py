"""The same server with its state in PostgreSQL and an S3 store."""

from __future__ import annotations

import pytest

from shipway.testing.live import live_server, onnx_bundle
from shipway.testing.servers import postgresql, s3


@pytest.mark.parametrize("placement", ["inline", "process"])
def test_an_endpoint_is_deployed_from_postgresql_and_s3(tmp_path, monkeypatch, placement):
    with postgresql() as new_database, s3() as store:
        for name, value in store.environment.items():
            monkeypatch.setenv(name, value)
        options = {"database_url": new_database(), "artifacts_url": store.url}
        with live_server(tmp_path / "state", **options) as server:
            for number in (1, 2):
                onnx_bundle(tmp_path / f"v{number}", float(number))
                server.register("scale", tmp_path / f"v{number}")
                server.deploy("scale", f"scale:{number}", placement=placement)
                view = server.settled("scale")
                assert (view["phase"], view["active"]) == ("live", f"scale:{number}")
                server.until(lambda wanted=float(number): server.answers("scale", 1.0) == wanted)
            server.control.post("/endpoints/scale/rollback")
            server.until(lambda: server.answers("scale", 1.0) == 1.0)
        assert not (tmp_path / "state" / "shipway.db").exists()
        assert list((tmp_path / "state" / "cache" / "bundles").iterdir())
