"""Each mistake on the command line is told with the nearest right spelling, and leaves nothing on disk."""

from __future__ import annotations

import importlib
import shlex
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

CONFIG = '''"""A small study, for tests.

More words.
"""

from ml_collections import config_dict

VARIANTS = ("kermany", "fast")
CHOICES = {
    "guidance.target": (("pneumonia", "normal"), "Section 3"),
    "guidance.layers": (("low", "mid", "high"), "Section 4"),
    "guidance.strength": ((0.5, 1.0, ...), "Figure 2"),
    "guidance.mode": (("soft", "hard", ...), "not stated"),
    "fastonly.key": (("a",), "only in the variant fast"),
}


def get_config(variant: str = "default") -> config_dict.ConfigDict:
    config = config_dict.ConfigDict()
    config.seed = 0
    config.phases = ("classifier", "guidance")
    config.data = config_dict.ConfigDict(
        {"name": "phantom", "root": "", "size": (64, 64), "scale": (0.5, 1.0), "cache": True, "limit": None,
         "carve": {"val": 0.1}, "external": {}}
    )
    config.data.maximum = config_dict.placeholder(int)
    config.classifier = config_dict.ConfigDict({"steps": 20, "rate": 1e-3})
    config.guidance = config_dict.ConfigDict(
        {"target": "pneumonia", "layers": ("low", "mid"), "strength": 0.5, "mode": "soft"}
    )
    if variant == "kermany":
        config.data.name = "kermany"
    if variant == "fast":
        config.classifier.steps = 2
        config.fastonly = config_dict.ConfigDict({"key": "a"})
    return config
'''


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "launch"))
    return importlib.import_module("cli")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current folder with `configs/small.py` and a folder `films`."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "small.py").write_text(CONFIG)
    (tmp_path / "films" / "train").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entries(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts}


SMALL = "--config=configs/small.py"
MISTAKES = {
    "file": (["--config=configs/smal.py"], ["configs/smal.py does not exist", "did you mean configs/small.py?"]),
    "no suffix": (["--config=configs/small"], ["did you mean configs/small.py?"]),
    "bare name": (["--config=small:fast"], ["config file small does not exist"]),
    "folder": (["--config=configs"], ["is a folder", "configs/small.py"]),
    "other file": (["--config=notes.txt"], ["config file notes.txt does not exist"]),
    "variant": ([f"{SMALL}:kermani"], ["did you mean configs/small.py:kermany?", "default, kermany, fast"]),
    "empty variant": ([f"{SMALL}:"], ["no variant ''", "default, kermany, fast"]),
    "section name": ([SMALL, "--config.clasifier.steps=3"], ["did you mean --config.classifier.steps?"]),
    "key name": ([SMALL, "--config.classifier.stpes", "3"], ["did you mean --config.classifier.steps?"]),
    "nothing alike": ([SMALL, "--config.zzz=3"], ["unknown key --config.zzz", "there are:", "classifier.steps"]),
    "below a leaf": ([SMALL, "--config.seed.a=3"], ["unknown key", "did you mean --config.seed?"]),
    "index": ([SMALL, "--config.phases[0]=guidance"], ["did you mean --config.phases?"]),
    "word for int": ([SMALL, "--config.classifier.steps=many"], ["=many: expected an int", "steps=20"]),
    "float for int": ([SMALL, "--config.classifier.steps=2.5"], ["expected an int"]),
    "empty int": ([SMALL, "--config.classifier.steps="], ["expected an int"]),
    "word for float": ([SMALL, "--config.classifier.rate=fast"], ["expected a float", "rate=0.001"]),
    "word for bool": ([SMALL, "--config.data.cache=perhaps"], ["expected a bool", "cache=true"]),
    "no for int": ([SMALL, "--noconfig.classifier.steps"], ["expected an int"]),
    "no with value": ([SMALL, "--noconfig.data.cache=1"], ["takes no value"]),
    "int for tuple": ([SMALL, "--config.data.size=64"], ["expected a tuple", '"(64, 64)"']),
    "word for tuple": ([SMALL, "--config.phases=classifier"], ["expected a tuple", "('classifier', 'guidance')"]),
    "words in int tuple": ([SMALL, "--config.data.size=('a','b')"], ["same kind of entries as", "(64, 64)"]),
    "broken tuple": ([SMALL, "--config.data.size=(64,,64)"], ["expected a tuple"]),
    "None in the file": ([SMALL, "--config.data.limit=3"], ["NoneType", "edit the file"]),
    "word for placeholder": ([SMALL, "--config.data.maximum=x"], ["--config.data.maximum=x", "expected another type"]),
    "no value": ([SMALL, "--config.classifier.steps"], ["needs a value", "--config.classifier.steps=20"]),
    "value swallowed": ([SMALL, "--config.classifier.steps", "--dry_run"], ["needs a value"]),
    "whole section": ([SMALL, "--config.data=3"], ["is a section", "--config.data.root"]),
    "closed choice": ([SMALL, "--config.guidance.target=pnuemonia"], ["did you mean pneumonia?", "pneumonia, normal"]),
    "closed choice in a tuple": ([SMALL, "--config.guidance.layers=('low','hgih')"], ["did you mean high?"]),
    "phase": (
        [SMALL, "--config.phases=('clasifier',)"],
        ["'clasifier', which has no section", "did you mean classifier"],
    ),
    "missing root": ([SMALL, "--config.data.root=flims/train"], ["flims/train does not exist", "films/train"]),
    "missing root, none alike": (
        [SMALL, "--config.data.root=/missing/folder"],
        ["/missing/folder does not exist", "nearest that does is /"],
    ),
    "missing root, a file is alike": ([SMALL, "--config.data.root=configs/smal.py"], ["configs/small.py"]),
    "root of nobody": ([SMALL, "--config.data.root=~no-such-person/f"], ["~no-such-person/f does not exist"]),
    "missing root at home": ([SMALL, "--config.data.root=~/no/such"], ["~/no/such does not exist", "nearest"]),
    "key of an external set": (
        [SMALL, "--config.data.external.kids.rot=films"],
        ["unknown key --config.data.external.kids.rot", "did you mean --config.data.external.kids.root?"],
    ),
    "word for a number there": ([SMALL, "--config.data.external.kids.carve.val=x"], ["kids.carve.val=x", "a float"]),
    "missing root there": (
        [SMALL, "--config.data.external.kids.root=flims"],
        ["--config.data.external.kids.root=flims does not exist", "films"],
    ),
    "flag": (["--confg=configs/small.py"], ["unknown flag --confg", "did you mean --config?"]),
    "flag with key": ([SMALL, "--confg.seed=1"], ["unknown flag --confg.seed", "did you mean --config.seed?"]),
    "workdir flag": ([SMALL, "--workdri=out"], ["unknown flag --workdri", "did you mean --workdir?"]),
    "flag like none": ([SMALL, "--zzz"], ["unknown flag --zzz", "--workdir"]),
    "positional": (["configs/small.py"], ["unexpected argument 'configs/small.py'", "--config="]),
    "no config": ([], ["--config is missing"]),
    "empty config": (["--config="], ["--config needs a value"]),
    "workdir without value": ([SMALL, "--workdir"], ["--workdir"]),
    "workdir eats a flag": ([SMALL, "--workdir", "--dry_run"], ["--workdir needs a value"]),
    "workdir below a file": ([SMALL, "--workdir=configs/small.py/out"], ["small.py is not a folder"]),
    "workdir is a file": ([SMALL, "--workdir=configs/small.py"], ["small.py is not a folder"]),
    "workdir is a URL": (
        [SMALL, "--workdir=gs://bucket/out"],
        ["--workdir=gs://bucket/out is a URL; expected a local"],
    ),
    "films at a URL": ([SMALL, "--config.data.root=s3://b/films"], ["--config.data.root=s3://b/films is a URL"]),
    "films at a URL there": ([SMALL, "--config.data.external.kids.root=gs://b"], ["kids.root=gs://b is a URL"]),
}


@pytest.mark.parametrize(("args", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistake_is_told_and_leaves_nothing(cli: ModuleType, here: Path, args: list[str], words: list[str]) -> None:
    before = entries(here)
    with pytest.raises(cli.UsageError) as caught:
        cli.parse(args)
    for word in words:
        assert word in str(caught.value)
    assert entries(here) == before


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder where nobody may create files: /proc")
def test_read_only_workdir(cli: ModuleType, here: Path) -> None:
    with pytest.raises(cli.UsageError, match=r"cannot be written: /proc"):
        cli.parse([SMALL, "--workdir=/proc/out"])


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def get_config(:", "does not load: SyntaxError"),
        ("import no_such_module", "does not load: ModuleNotFoundError"),
        ("x = 1", "has no function get_config"),
        ("def get_config(variant): return {}", "returned dict, expected a ConfigDict"),
        ("def get_config(variant): raise KeyError('a')", "get_config('default') failed: KeyError"),
        (CONFIG + 'CHOICES["seed"] = ("0", "no tuple")', "must be a pair"),
        (CONFIG + 'CHOICES["data.name"] = (("kermany",), "default not in list")', "data.name=phantom is no choice"),
    ],
)
def test_broken_config_file(cli: ModuleType, here: Path, source: str, words: str) -> None:
    Path("configs/broken.py").write_text(source)
    with pytest.raises(cli.UsageError) as caught:
        cli.parse(["--config=configs/broken.py"])
    assert words in str(caught.value)
    assert "configs/broken.py" in str(caught.value) or "is no choice" in words


def test_defaults(cli: ModuleType, here: Path) -> None:
    before = entries(here)
    request = cli.parse([SMALL])
    assert request.name == "small"
    assert request.workdir == here / "runs" / "small"
    assert request.config.classifier.steps == 20
    assert set(request.choices) == {"guidance.target", "guidance.layers", "guidance.strength", "guidance.mode"}
    assert request.choices["guidance.target"] == (("pneumonia", "normal"), "Section 3")
    assert request.config.is_locked
    assert entries(here) == before


def test_variant_names_the_workdir(cli: ModuleType, here: Path) -> None:
    request = cli.parse([f"{SMALL}:fast"])
    assert (request.name, request.workdir) == ("small-fast", here / "runs" / "small-fast")
    assert request.config.classifier.steps == 2
    assert "fastonly.key" in request.choices
    assert cli.parse([f"{SMALL}:default"]).name == "small"


def test_config_path_is_taken_from_the_current_folder(
    cli: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(here / "films")
    request = cli.parse(["--config=../configs/small.py", "--workdir=out"])
    assert request.workdir == here / "films" / "out"
    with pytest.raises(cli.UsageError, match="does not exist"):
        cli.parse([SMALL])


@pytest.mark.parametrize(
    ("args", "key", "value"),
    [
        (["--config.classifier.steps=3"], "classifier.steps", 3),
        (["--config.classifier.steps", "3"], "classifier.steps", 3),
        (["--config.seed", "-3"], "seed", -3),
        (["--config.classifier.steps=3", "--config.classifier.steps=5"], "classifier.steps", 5),
        (["--config.classifier.rate=1"], "classifier.rate", 1.0),
        (["--config.data.cache=false"], "data.cache", False),
        (["--noconfig.data.cache"], "data.cache", False),
        (["--config.data.cache=false", "--config.data.cache"], "data.cache", True),
        (["--config.data.size=(32, 32)"], "data.size", (32, 32)),
        (["--config.data.size=(1, 1)", "--config.data.size=(2, 2)"], "data.size", (2, 2)),
        (["--config.data.scale=(1, 0.25)"], "data.scale", (1, 0.25)),
        (["--config.phases=()"], "phases", ()),
        (["--config.phases=('guidance',)"], "phases", ("guidance",)),
        (["--config.data.maximum=7"], "data.maximum", 7),
        (["--config.data.name=a=b c"], "data.name", "a=b c"),
        (["--config.data.root=films"], "data.root", "films"),
        (["--config.data.root=configs/small.py"], "data.root", "configs/small.py"),
        (["--config.data.external.kids.root=films"], "data.external.kids.root", "films"),
        (["--config.data.external.kids.carve.val=0.3"], "data.external.kids.carve.val", 0.3),
        (["--config.data.external.kids.class_map=(('a','b'),)"], "data.external.kids.class_map", (("a", "b"),)),
        (["--config.guidance.target=normal"], "guidance.target", "normal"),
        (["--config.guidance.strength=0.7"], "guidance.strength", 0.7),
        (["--config.guidance.mode=mine"], "guidance.mode", "mine"),
    ],
)
def test_override(cli: ModuleType, here: Path, args: list[str], key: str, value: object) -> None:
    default = cli.checks.flatten(cli.parse([SMALL]).config)
    for argv in ([SMALL, *args], [*args, SMALL], [*args, "--config", "configs/small.py"]):
        leaves = cli.checks.flatten(cli.parse(argv).config)
        assert leaves[key] == value
        assert type(leaves[key]) is type(value)
        assert {k: v for k, v in leaves.items() if k != key} == {k: v for k, v in default.items() if k != key}


def test_existing_workdir_is_accepted_and_untouched(cli: ModuleType, here: Path) -> None:
    (here / "out").mkdir()
    assert cli.parse([SMALL, "--workdir=out"]).workdir == here / "out"
    assert list((here / "out").iterdir()) == []


@pytest.mark.parametrize("flag", ["--dry_run", "--dry-run"])
def test_dry_run_shows_values_and_choices(cli: ModuleType, here: Path, flag: str) -> None:
    before = entries(here)
    page = cli.parse([f"{SMALL}:fast", "--config.classifier.rate=0.5", flag])
    assert "small-fast" in page
    assert "classifier.steps = 2\n" in page
    assert "classifier.rate = 0.5  (set on the command line)" in page
    assert "guidance.target = 'pneumonia'  of: pneumonia, normal  (Section 3)" in page
    assert "of: soft, hard, ...  (not stated)" in page
    assert entries(here) == before


def test_dry_run_tells_mistakes(cli: ModuleType, here: Path) -> None:
    with pytest.raises(cli.UsageError, match="is no choice"):
        cli.parse([SMALL, "--dry_run", "--config.guidance.target=x"])


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_configs_without_importing_them(
    cli: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    (here / "configs" / "loud.py").write_text('"""Loud."""\nVARIANTS: tuple[str, ...] = ("one",)\nraise SystemExit(9)')
    (here / "configs" / "torn.py").write_text("def (")
    monkeypatch.setattr(cli, "CONFIGS", here / "configs")
    page = cli.parse([flag])
    assert "configs/small.py  A small study, for tests." in page
    assert "variants: kermany, fast" in page
    assert "configs/loud.py  Loud.\n      variants: one" in page
    assert "configs/torn.py  (unreadable" in page
    for word in ("--config=", "--workdir=", "--dry_run", "--config.KEY=VALUE", "runs/NAME"):
        assert word in page


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("[!_]*.py")), ids=lambda path: path.stem)
def test_the_clones_configs_keep_the_contract(cli: ModuleType, path: Path) -> None:
    """The docstring has a first line, `VARIANTS` is literal, every variant loads, every choice has a key."""
    summary, variants = cli.pages.describe(path)
    assert summary.strip()
    assert not summary.startswith("(")
    module = cli._load(path)
    assert variants == tuple(module.VARIANTS)
    assert "default" not in variants
    keys: set[str] = set()
    for variant in ("default", *variants):
        config = cli._get_config(path, module, variant)
        keys |= set(cli.checks.flatten(config))
        cli.checks.choices(path, module, config)
        cli.checks.check_phases(config)
    assert set(module.CHOICES) <= keys


def test_a_command_is_recorded_as_one_would_type_it(cli: ModuleType) -> None:
    argv = ["launch/main.py", "--config.data.classes=('Normal', 'Mass')", "--input=a b/*.png", "--workdir=$HOME's"]
    typed = cli.checks.command(argv)
    assert typed.startswith("python launch/main.py \"--config.data.classes=('Normal', 'Mass')\" ")
    assert shlex.split(typed) == ["python", *argv]
