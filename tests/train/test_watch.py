"""Several processes notice which of them is gone, and end with one code."""

import threading
import time

from cxrjax.train import watch


def sign(beat, code=0, words=""):
    return {"beat": beat, "host": "b", "pid": 7, "end": {"code": code, "words": words} if code else {}}


def test_a_process_without_a_new_sign_is_missing_after_the_timeout_and_named():
    watcher = watch.Watcher(count=3, index=0, timeout=10, now=0)
    assert watcher.look({1: sign(1), 2: sign(1)}, 1) is None
    assert watcher.look({1: sign(1), 2: sign(2)}, 10) is None
    found = watcher.look({1: sign(1), 2: sign(3)}, 12)
    assert (found.number, found.code) == (1, 70)
    assert found.words.startswith("process 1 (b, pid 7) has given no sign since ")


def test_a_process_that_never_came_is_missing_too():
    assert watch.Watcher(2, 0, timeout=10, now=0).look({}, 11).words.startswith("process 1 has given no sign")


def test_a_sign_that_cannot_be_read_for_a_while_is_no_missing_process():
    watcher = watch.Watcher(2, 1, timeout=10, now=0)
    for now, signs in ((5, {0: sign(1)}), (9, {}), (14, {}), (15, {0: sign(2)}), (24, {})):
        assert watcher.look(signs, now) is None


def test_a_process_that_has_ended_is_heard_with_its_code_and_words():
    found = watch.Watcher(2, 1, timeout=10, now=0).look({0: sign(4, 2, "data.root does not exist")}, 1)
    assert found == (0, 2, "process 0: data.root does not exist")


def test_signs_of_an_earlier_start_say_nothing(tmp_path):
    old, new = watch.Signs(tmp_path, "old", 2, 0), watch.Signs(tmp_path, "new", 2, 1)
    old.give(2, "an earlier end")
    new.give()
    assert list(new.read()) == [1]
    assert list(watch.Signs(tmp_path, "old", 2, 1).read()) == [0]


def test_the_last_words_stay(tmp_path):
    signs = watch.Signs(tmp_path, "t", 1, 0)
    signs.give(2, "x" * 5000)
    signs.give()
    assert signs.read()[0]["end"] == {"code": 2, "words": "x" * watch.LONGEST}


def test_a_missing_process_ends_the_others_within_the_timeout(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(watch, "EVERY", 0.05)
    left, gone = [], threading.Event()

    def leave(code):
        left.append(code)
        gone.set()

    watching = watch.Watch(watch.Signs(tmp_path, "t", 2, 0), 2, 0, 0.3, leave)
    begun = time.monotonic()
    assert gone.wait(10)
    assert time.monotonic() - begun < 5
    watching.close()
    assert left[0] == 70
    assert "error: process 1 has given no sign since" in capsys.readouterr().err


def test_an_end_with_a_code_ends_the_others_with_it_and_is_told_once(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "EVERY", 0.05)
    monkeypatch.setattr(watch, "GRACE", 0.5)
    left = []
    signs = [watch.Signs(tmp_path, "t", 2, i) for i in range(2)]
    watches = [watch.Watch(s, 2, i, 30, lambda code, i=i: left.append((i, code))) for i, s in enumerate(signs)]
    told = watches[1].farewell(2, "the disk is full")
    until = time.monotonic() + 10
    while not left and time.monotonic() < until:
        time.sleep(0.05)
    watches[0].close()
    assert left[0] == (0, 2)
    assert told
    assert not watch.Watch(signs[1], 2, 1, 30, left.append).farewell(2, "the disk is full")
