"""Files of a study that were damaged are removed, so that they are made again."""

import logging

import numpy as np

from cxrjax.studies import arrays


def test_a_damaged_file_is_named_and_made_again(tmp_path, caplog):
    good, bad, absent = (tmp_path / f"{name}.npz" for name in ("good", "bad", "absent"))
    for path in (good, bad):
        arrays.write_arrays(path, image=np.random.default_rng(0).normal(size=(4, 50)))
    content = bad.read_bytes()
    bad.write_bytes(content[:400] + b"\0" * 100 + content[500:])
    with caplog.at_level(logging.WARNING):
        assert arrays.there([good, bad, absent]) == [True, False, False]
    assert f"{bad} is damaged" in caplog.text
    assert not bad.exists()
    assert arrays.exists(good)
    assert not list(tmp_path.glob(".*"))
