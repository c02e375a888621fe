"""A pickle that ends too early is called that, wherever it ends."""

import pickle

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from shipway.bundles.formats.pickle_names import names_in
from shipway.bundles.formats.pickles import checked_names
from shipway.core.errors import ArtifactTruncated

X = np.arange(12.0).reshape(6, 2)
MODEL = LogisticRegression().fit(X, [0, 0, 0, 1, 1, 1])
WRITERS = {
    "joblib": lambda path: joblib.dump(MODEL, path),
    "zlib": lambda path: joblib.dump(MODEL, path, compress=3),
    "pickle": lambda path: path.write_bytes(pickle.dumps(MODEL)),
    "old pickle": lambda path: path.write_bytes(pickle.dumps(MODEL, protocol=2)),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_pickle_cut_anywhere_is_called_truncated(tmp_path, writer):
    path = tmp_path / "model"
    WRITERS[writer](path)
    whole = path.read_bytes()
    assert names_in(path).complete
    for end in range(2, len(whole), 7):
        if whole[end - 1 : end] == pickle.STOP:
            continue  # by chance the byte that ends a pickle
        path.write_bytes(whole[:end])
        with pytest.raises(ArtifactTruncated):
            checked_names(path)
