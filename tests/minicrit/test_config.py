"""Recipes and how settings reach them: every recipe parses, every mistake is named."""

import re
from dataclasses import asdict, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from minicrit import config, limits
from minicrit.config import Recipe
from minicrit.limits import broken
from minicrit.settings import (
    RECIPES,
    SettingsError,
    explain,
    known_keys,
    load_recipe,
    nearest,
    recipe_file,
    shipped_recipes,
)
from minicrit.strictyaml import read_settings

NAMES = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
#: What a run is compared with where that is not its base: what it goes on from.
AGAINST = {"feedback": "checkpoints/released/embedded-10"}
HUB = {"workstation": "Qwen/Qwen2.5-1.5B-Instruct", "vista": "Qwen/Qwen2.5-7B-Instruct"}


def settings_of(recipe: Recipe) -> dict[str, Any]:
    flat = {}
    for name, value in asdict(recipe).items():
        flat |= {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {
            name: value}  # fmt: skip
    return flat


def refused(text: str, tmp_path: Path) -> str:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_recipe([str(path)], [])
    return str(caught.value).replace(f"{tmp_path}/", "")


def test_the_recipes_are_there():
    assert {"tiny", "cpu", "cpu-long", "workstation", "vista"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_parses_and_holds_only_what_differs(tmp_path, name):
    empty = tmp_path / f"{name}.yaml"
    empty.touch()
    recipe, defaults = (settings_of(load_recipe([path], [])) for path in (name, str(empty)))
    written = {k for k in read_settings(recipe_file(name)) if k in known_keys()}
    assert written == {key for key in defaults if recipe[key] != defaults[key]}


@pytest.mark.parametrize("name", NAMES)
def test_every_recipe_begins_with_a_line_that_explains_it(name):
    first = recipe_file(name).read_text().splitlines()[0]
    assert first.startswith("# ")
    assert dict(shipped_recipes())[name] == first[2:]


@pytest.mark.parametrize("name", NAMES)
def test_runs_of_two_recipes_never_share_a_folder(name):
    recipe = load_recipe([name], [])
    ours = (f"data/{name}", f"checkpoints/{name}", f"reports/{name}")
    left = {key: str(value) for key, value in settings_of(Recipe()).items()
            if re.search(r"/cpu\b", str(value))}  # fmt: skip
    found = {key: str(value) for key, value in settings_of(recipe).items() if key in left}
    assert len(found) == len(left) > 40
    written = read_settings(recipe_file(name))
    assert [key for key, path in found.items()
            if not path.startswith(ours) and key not in written] == []  # fmt: skip
    assert recipe.benchmark.model_1 == str(recipe.sft.out) == str(recipe.quantize.model)
    assert recipe.errors.model == str(recipe.sft.out)
    assert recipe.errors.train == str(recipe.data.folder / "train.jsonl")
    assert recipe.benchmark.data == str(recipe.data.folder / "test.jsonl")
    assert recipe.base.model == HUB.get(name, recipe.base.model)
    assert recipe.benchmark.model_2 == AGAINST.get(name, recipe.base.model)


@pytest.mark.parametrize("stage", ["sft", "dpo", "rsf", "kto"])
def test_weights_that_are_trained_are_never_rounded_to_bfloat16(stage):
    expected = r"precision: expected one of auto, 32-true, bf16-mixed, 64-true, got 'bf16-true'"
    with pytest.raises(SettingsError, match=expected):
        load_recipe(["vista"], [f"--{stage}.precision", "bf16-true"])


def test_folders_that_nobody_names_are_those_of_the_last_recipe(tmp_path):
    path = tmp_path / "my-run.v2.yaml"
    path.write_text("sft: {epochs: 3, start: checkpoints/cpu/sft}\n")
    recipe = load_recipe(["tiny", str(path)], ["--dpo.start=checkpoints/cpu/dpo"])
    assert recipe.data.folder == Path("data/my-run.v2")
    assert recipe.sft.start == Path("checkpoints/cpu/sft")  # as the file says
    assert recipe.dpo.start == Path("checkpoints/cpu/dpo")  # as the flag says
    assert recipe.dpo.pairs == Path("data/my-run.v2-pairs/pairs.jsonl")
    assert recipe.explain.out == Path("reports/my-run.v2/explain")  # nobody speaks of explain
    assert recipe.benchmark.data == "data/my-run.v2/test.jsonl"
    assert recipe.hard == Recipe().hard
    words = " ".join(explain(["dpo"], ["tiny"], "minicrit dpo", "About.").split())
    assert "default: checkpoints/tiny/dpo)" in words


@pytest.mark.parametrize("name", ["base", "released"])
def test_a_recipe_that_would_write_among_other_critics_is_refused(tmp_path, name):
    path = tmp_path / f"{name}.yaml"
    path.touch()
    with pytest.raises(SettingsError, match=f"expected a recipe that names a run, got {name},"):
        load_recipe([str(path)], [])


def test_without_files_and_flags_all_is_default():
    assert load_recipe([], []) == Recipe()
    cpu = load_recipe(["cpu"], [])
    assert "calibration" in cpu.data.mechanisms
    assert not cpu.benchmark.types
    assert (cpu.rsf.labels, cpu.constitution.learn, cpu.constitution.labels) == (
        True, "targets", True)  # fmt: skip
    cpu.data.mechanisms, cpu.benchmark.types = None, True
    assert cpu == replace(Recipe(), rsf=cpu.rsf, constitution=cpu.constitution)


def test_a_list_where_one_value_belongs_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\ndata:\n  train: [9]\n")
    with pytest.raises(SettingsError, match=r"mine.yaml:3: data.train: expected a whole number"):
        load_recipe([str(path)], [])
    path.write_text("data: {mechanisms: [a, [b]]}\n")
    with pytest.raises(SettingsError, match=r"mine.yaml:1: expected one value for data.mechanisms"):
        load_recipe([str(path)], [])


def test_flags_win_over_files_and_later_files_over_earlier(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("seed: 5\ndata: {train: 9}\nlora:\n")
    recipe = load_recipe(["tiny", str(path)], ["--data.train", "7", "--sft.learning_rate=1e-5"])
    assert (recipe.seed, recipe.data.train, recipe.data.test) == (5, 7, 24)
    assert recipe.sft.learning_rate == 1e-5
    assert recipe.base.folder == Path("checkpoints/base")


def test_values_get_the_types_of_their_fields(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("lora: {alpha: 16, targets: no}\nbase: {revision: '123'}\n"
                    "data: {public: sets}\nsft: {learning_rate: 1e-5, devices: 2}\n")  # fmt: skip
    recipe = load_recipe([str(path)], [])
    assert (recipe.lora.alpha, type(recipe.lora.alpha)) == (16.0, float)
    assert recipe.lora.targets == "no"
    assert recipe.base.revision == "123"
    assert recipe.data.public == Path("sets")
    assert recipe.sft.learning_rate == 1e-5
    assert recipe.sft.devices == 2
    assert load_recipe([], ["--data.public", "null"]).data.public is None


@pytest.mark.parametrize(("text", "message"), [
    ("sft:\n  epochs: 010\n", "x.yaml:2: sft.epochs: expected a whole number, got '010'"),
    ("sft:\n  epochs: 1.0\n", "x.yaml:2: sft.epochs: expected a whole number, got 1.0"),
    ("sft:\n  epochs: true\n", "x.yaml:2: sft.epochs: expected a whole number, got True"),
    ("sft: {clip: .nan}\n", "x.yaml:1: sft.clip: expected a number, got '.nan'"),
    ("sft: {clip: 1e999}\n", "x.yaml:1: sft.clip: expected a number, got '1e999'"),
    ("sft: {clip: null}\n", "x.yaml:1: sft.clip: expected a number, got null"),
    ("sft: {share_prefix: no}\n", "x.yaml:1: sft.share_prefix: expected true or false, got 'no'"),
    ("seed: 12:30:00\n", "x.yaml:1: seed: expected a whole number, got '12:30:00'"),
    ("base: {revision: 123}\n", "x.yaml:1: base.revision: expected text or null, got 123"),
    ("base: {model: }\n", "x.yaml:1: base.model: expected text, got null"),
    ("quantize: {bits: 2}\n", "x.yaml:1: quantize.bits: expected one of 16, 8, 4, got 2"),
    ("base:\n  dtype: fp32\n", "x.yaml:2: base.dtype: expected one of float32, bfloat16, nf4, got"),
    ("data: {folder: 3}\n", "x.yaml:1: data.folder: expected a path, got 3"),
    ("sft:\n  epochs: 0\n", "x.yaml:2: sft.epochs: expected 1 or more, got 0; see --help"),
    ("sft: {warmup: 1.5}\n", "x.yaml:1: sft.warmup: expected a share from 0 to 1, got 1.5"),
    ("rsf: {temperatures: [-1]}\n", "x.yaml:1: rsf.temperatures: expected 0 or more, got [-1.0]"),
    ("dpo: {losses: 3}\n", "x.yaml:1: dpo.losses: expected a list (each text), got 3"),
    ("seed: 1\nsft:\n  epoch: 3\n", "x.yaml:3: expected a known setting, got sft.epoch; "
     "did you mean sft.epochs?"),
    ("learning_rate: 1\n", "x.yaml:1: expected a known setting, got learning_rate; did you mean "
     "sft.learning_rate?"),
    ("stf:\n  epochs: 1\n", "x.yaml:1: expected a known setting, got stf; did you mean sft?"),
    ("nosuch: 1\n", "x.yaml:1: expected a known setting, got nosuch; see --help"),
    ("sft: 3\n", "x.yaml:1: expected settings below sft, got 3; write each on a line below it"),
    ("a: 1\na: 2\n", "x.yaml:2: expected each key once, got a again after line 1; keep one"),
    ("base: !!python/object/apply:os.system [x]\n", "x.yaml:1: expected one value for base, got "
     "the tag tag:yaml.org,2002:python/object/apply:os.system"),
])  # fmt: skip
def test_mistakes_in_a_file(tmp_path, text, message):
    assert refused(text, tmp_path).startswith(message)


@pytest.mark.parametrize(("flags", "message"), [
    (["--sft.learnin_rate", "1"], "expected a known flag, got --sft.learnin_rate; did you mean "
     "--sft.learning_rate?"),
    (["--epochs", "3"], "expected a known flag, got --epochs; did you mean --sft.epochs?"),
    (["--sft.epoch", "3"], "expected a known flag, got --sft.epoch; did you mean --sft.epochs?"),
    (["--nosuch", "3"], "expected a known flag, got --nosuch; see --help"),
    (["--sft", "x.yaml"], "expected a known flag, got --sft; did you mean --s"),
    (["--sft.epochs"], "expected --section.field VALUE, got: argument --sft.epochs: expected one"),
    (["3"], "expected --section.field VALUE, got: unrecognized arguments: 3"),
    (["--sft.epochs", "x"], "--sft.epochs: expected a whole number, got 'x'"),
    (["--sft.clip", ".inf"], "--sft.clip: expected a number, got inf"),
    (["--sft.epochs=null"], "--sft.epochs: expected a whole number, got 'None'"),
    (["--data.train", "-1"], "--data.train: expected 0 or more, got -1; see --help"),
    (["--serve.port", "65536"], "--serve.port: expected 0 (for a free one) to 65535, got 65536"),
    (["--seed", "-1"], "--seed: expected 0 to 2^63 - 1, got -1; see --help"),
    (["--seed", str(2**63)], "--seed: expected 0 to 2^63 - 1, got 9223372036854775808; see --help"),
    (["--serve.port", "-1"], "--serve.port: expected 0 (for a free one) to 65535, got -1; see"),
    (["--sft.devices", "0"], "--sft.devices: expected 1 or more, got 0; see --help"),
    (["--hard.budget_usd", "-2"], "--hard.budget_usd: expected 0 or more, got -2.0; see --help"),
    (["--sft.precision", "16-true"], "--sft.precision: expected one of auto, 32-true, bf16-mixed"),
])  # fmt: skip
def test_mistakes_in_flags(flags, message):
    with pytest.raises(SettingsError) as caught:
        load_recipe([], flags)
    assert str(caught.value).startswith(message)


def test_limits_are_of_settings_that_are_there_and_leave_what_may_be():
    assert all(broken(key, value) == "" for key, value in settings_of(Recipe()).items())
    known = {*known_keys(), *(key.rpartition(".")[2] for key in known_keys())}
    listed = {*limits._SIGNED, *limits._LEAST, *limits._ABOVE_ZERO, *limits._SHARES}
    assert listed <= known
    for key, value in (("ab.outcome_low", -1.0), ("seed", 2**63 - 1), ("sft.devices", "auto")):
        assert broken(key, value) == ""
    assert broken("lora.alpha", 32.0) == broken("data.validation", 48) == ""
    assert [bool(broken("filters.balance", value)) for value in (0, 0.5, 1, 1.5)] == [
        False, True, False, False]  # fmt: skip
    assert broken("feedback.validation", 48.0) == "a share from 0 to 1"


def test_a_recipe_is_a_name_or_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("cpu").mkdir()
    assert recipe_file("cpu") == RECIPES / "cpu.yaml"
    Path("mine.yaml").write_text("seed: 1\n")
    assert recipe_file("mine.yaml") == Path("mine.yaml")
    assert recipe_file(str(tmp_path / "mine.yaml")) == tmp_path / "mine.yaml"
    for wrong, meant in (("workstaton", "workstation"), ("sub/tny.yaml", "tiny")):
        with pytest.raises(SettingsError, match=rf"got {wrong}; did you mean {meant}\?"):
            recipe_file(wrong)


def test_nearest_prefers_the_same_last_part():
    known = ["sft.out", "quantize.out", "sft.epochs"]
    assert nearest("quantise.out", known) == "quantize.out"
    assert nearest("epochs", known) == "sft.epochs"
    assert nearest("sft.epoch", known) == "sft.epochs"
    assert nearest("nosuch", known) is None


def test_help_explains_every_field_from_its_docstring_with_units():
    text = " ".join(explain(["base", "data", "sft"], ["tiny"], "minicrit sft", "About.").split())
    assert "optimizer steps between validations, rounded so that they are evenly spaced" in text
    assert "share of the steps in which the learning rate rises linearly" in text
    assert "longest prompt plus critique, in tokens" in text
    assert "default: 64)" in text  # the value of the recipe, not of the dataclass
    assert "--quantize" not in text
    assert "class" not in text


def test_every_field_is_explained():
    sections = [hint for hint in vars(config).values() if is_dataclass(hint)]
    words = {s: "".join(c.__doc__ or "" for c in s.__mro__[:-1]) for s in sections}
    missing = [f"{section.__name__}.{f.name}" for section in sections for f in fields(section)
               if f"    {f.name}: " not in words[section] and not is_dataclass(f.type)]  # fmt: skip
    assert missing == []
