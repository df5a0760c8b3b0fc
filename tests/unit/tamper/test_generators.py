"""Trained painters: any cube, weights that are checked, records that replay only with the painter they were made with."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from torch import nn

from jachai.core.errors import ModelError, UsageError
from jachai.core.folders import HOME_VARIABLE, home
from jachai.core.volume import Volume, Voxels
from jachai.tamper import painters, read_record, shelf
from jachai.tamper.attack import Effect
from jachai.tamper.canvas import Canvas
from jachai.tamper.ctgan import CtGan
from jachai.tamper.generators import CHANNELS, Diffusion, OneStep, loaded, network, planes
from jachai.tamper.nodule import NoduleShape
from jachai.tamper.shelf import CARD_KEY, FILE, KINDS, SCHEMA, Card, Kind, Task, card_text, find, read, split

MM = (1.0, 1.0, 1.0)
SMALL: dict[str, tuple[int, ...]] = {
    "unet-gan": (4, 8, 8, 8, 8),
    "autoencoder": (4, 8, 8),
    "diffusion": (8, 8, 8),
    "cycle-gan": (4, 8, 8),
}


def card(kind: Kind = "unet-gan", task: Task = "removal", channels: tuple[int, ...] = ()) -> Card:
    return Card(SCHEMA, kind, task, channels or SMALL[kind], "nearest", 1, 1, 1, "", "", "")


def model_of(what: Card, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return network(what).eval()


def written(folder: Path, what: Card, seed: int = 0, spoil: float | None = None) -> Path:
    """A painter's file with weights by chance, as `training` writes it."""
    import hashlib

    tensors = {name: tensor.contiguous() for name, tensor in model_of(what, seed).state_dict().items()}
    if spoil is not None:
        tensors[next(iter(tensors))].view(-1)[0] = spoil
    digest = hashlib.sha256(split(safetensors.torch.save(tensors))[1]).hexdigest()
    data = safetensors.torch.save(tensors, {CARD_KEY: card_text(replace(what, tensors_sha256=digest))})
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_bytes(data)
    return folder / FILE


@pytest.fixture
def on_the_shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one painter of each kind for each task, called KIND:TASK-KIND."""
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    for kind in KINDS:
        for task in shelf.TASKS:
            written(tmp_path / "painters" / f"{task}-{kind}", card(kind, task))
    return tmp_path


def canvas(shape: tuple[int, int, int], low: int, seed: int = 0, nodule: NoduleShape | None = None) -> Canvas:
    """Noise with a hole that keeps `low` voxels from every side."""
    cube = np.random.default_rng(9).uniform(-0.5, 0.5, shape).astype(np.float32)
    hole = np.zeros(shape, bool)
    hole[tuple(slice(low, n - low) for n in shape)] = True

    def same(values: Voxels) -> Voxels:
        return np.clip(values / 2000, -0.5, 0.5).astype(np.float32)

    return Canvas(
        cube, hole, np.zeros(shape, bool), lambda: cube[None], MM, same, same, nodule, np.random.default_rng(seed)
    )


def painter_of(what: Card) -> OneStep | Diffusion:
    model = model_of(what)
    return Diffusion(model, what.task, 2) if what.kind == "diffusion" else OneStep(model, what.task)  # type: ignore[arg-type]


PAINTERS_OF = {(kind, task): painter_of(card(kind, task)) for kind in KINDS for task in shelf.TASKS}


@settings(max_examples=25)
@given(
    st.sampled_from(KINDS),
    st.sampled_from(shelf.TASKS),
    st.tuples(*[st.integers(7, 41)] * 3),
    st.integers(0, 3),
)
@example("unet-gan", "removal", (32, 32, 32), 6)
@example("diffusion", "injection", (5, 33, 47), 2)
def test_any_cube(kind: Kind, task: Task, shape: tuple[int, int, int], low: int) -> None:
    what = canvas(shape, low, nodule=NoduleShape(5.0))
    before, hole = what.cube.copy(), what.hole.copy()
    painted = PAINTERS_OF[kind, task].paint(what)
    assert painted.shape == shape
    assert painted.dtype == np.float32
    assert np.abs(painted).max() <= 0.5
    assert np.array_equal(what.cube, before)
    assert np.array_equal(what.hole, hole)
    if kind == "diffusion":
        assert np.array_equal(painted[~hole], before[~hole])


@pytest.mark.parametrize("kind", KINDS)
def test_what_stood_in_the_hole_is_not_seen_but_by_the_cycle_which_changes_it(kind: Kind) -> None:
    one = canvas((32, 32, 32), 6)
    other = replace(one, cube=np.where(one.hole, -one.cube, one.cube), rng=np.random.default_rng(0))
    first, second = (PAINTERS_OF[kind, "removal"].paint(what) for what in (one, other))
    assert np.array_equal(first, second) is (kind != "cycle-gan")


def test_only_the_diffusion_leaves_things_to_chance() -> None:
    for kind in KINDS:
        first, again, other = (PAINTERS_OF[kind, "removal"].paint(canvas((32, 32, 32), 6, seed)) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert np.array_equal(first, other) is (kind != "diffusion")


def test_the_nodule_guides_injections_alone() -> None:
    for task in shelf.TASKS:
        plain, guided = (
            PAINTERS_OF["unet-gan", task].paint(canvas((32, 32, 32), 6, nodule=nodule))
            for nodule in (None, NoduleShape(9.0))
        )
        assert np.array_equal(plain, guided) is (task == "removal")


@pytest.mark.parametrize("kind", KINDS)
def test_networks_are_small(kind: Kind) -> None:
    count = sum(p.numel() for p in network(card(kind, "injection", CHANNELS[kind])).parameters())
    assert 1_000_000 <= count <= 5_000_000


def test_nearest_upsampling_leaves_its_period() -> None:
    """`field.md` §3, trace b: the last step repeats every voxel, so that its power at two voxels stands out."""

    def comb(upsampling: str) -> float:
        what = replace(card(channels=CHANNELS["unet-gan"]), upsampling=upsampling)  # type: ignore[arg-type]
        painted = OneStep(model_of(what), "removal").paint(canvas((32, 32, 32), 6))  # type: ignore[arg-type]
        middle = painted[6:26, 6:26, 6:26]
        step = np.abs(np.diff(middle, axis=2)).mean(axis=(0, 1))
        even, odd = step[::2].mean(), step[1::2].mean()
        return float(abs(np.log(even / odd)))

    assert comb("nearest") > 2 * comb("trilinear")


def test_names(on_the_shelf: Path) -> None:
    weights = find("unet-gan:removal-unet-gan")
    assert weights.pinned == f"unet-gan:removal-unet-gan@{weights.sha256[:12]}"
    assert find(weights.pinned) == weights
    assert shelf.pinned("unet-gan:removal-unet-gan", "removal") == weights.pinned
    assert planes("unet-gan", "removal") == 2
    assert isinstance(painters.painter(weights.pinned), OneStep)
    assert isinstance(painters.painter("diffusion:injection-diffusion"), Diffusion)
    assert loaded(weights) is loaded(weights), "read once"
    for wrong, said in (
        ("unet-gan:nobody", "removal-unet-gan"),
        ("unet:x", "KIND:NAME"),
        ("unet-gan:../x", "KIND:NAME"),
        ("diffusion:removal-unet-gan", "is a unet-gan"),
    ):
        with pytest.raises(UsageError, match=said):
            painters.painter(wrong)
    with pytest.raises(UsageError, match="for injection, not for removal"):
        shelf.pinned("unet-gan:injection-unet-gan", "removal")


def test_home_is_where_the_user_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    assert home() == tmp_path
    monkeypatch.delenv(HOME_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    for system, place in (("linux", tmp_path / "xdg" / "jachai"), ("win32", tmp_path / "local" / "Jachai")):
        monkeypatch.setattr(sys, "platform", system)
        assert home() == place
    monkeypatch.setattr(sys, "platform", "darwin")
    assert home().parts[-3:] == ("Library", "Application Support", "Jachai")


def test_without_torch_the_extra_is_named(on_the_shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"jachai\[train\]"):
        painters.painter("unet-gan:removal-unet-gan")
    assert painters.painter("blur") is painters.PAINTERS["blur"]


def test_attacks_without_a_network_load_no_torch() -> None:
    code = "import sys; import jachai.tamper, jachai.cli, jachai.service.painters; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("place", [0, 9, -1, -4000])
def test_altered_weights_are_refused(place: int, on_the_shelf: Path) -> None:
    file = on_the_shelf / "painters" / "removal-unet-gan" / FILE
    data = bytearray(file.read_bytes())
    data[place] ^= 0x41
    file.write_bytes(data)
    with pytest.raises(ModelError):
        painters.painter("unet-gan:removal-unet-gan")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
@example(b"")
@example(b"\x02" + b"\0" * 7 + b"{}")
@example((50_000).to_bytes(8, "little") + b"[" * 50_000)
@example((40).to_bytes(8, "little") + b'{"__metadata__": {"jachai": "[]"}}      ')
def test_what_is_no_painter_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / FILE).write_bytes(data)
    shelf._read.cache_clear()
    with pytest.raises(ModelError):
        read(tmp_path / FILE)


def test_a_card_that_does_not_fit_its_weights_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path / "a", card())
    header, tensors = split(file.read_bytes())
    told = json.loads(header["__metadata__"][CARD_KEY])

    def told_as(card_json: str) -> None:
        header["__metadata__"][CARD_KEY] = card_json
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + tensors)

    for change in ({"channels": [8, 8, 8, 8, 8]}, {"task": "injection"}, {"kind": "diffusion"}):
        told_as(json.dumps(told | change))
        with pytest.raises(ModelError, match="do not fit"):
            loaded(read(file))
    told_as(json.dumps(told | {"channels": [2**40, 2**40]}))
    with pytest.raises(ModelError, match="no network"):
        loaded(read(file))
    for broken in (json.dumps(told | {"schema": "jachai.painter/2"}), "{", json.dumps({})):
        told_as(broken)
        with pytest.raises(ModelError, match="card"):
            read(file)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(value: float, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="finite"):
        loaded(read(written(tmp_path / "a", card(), spoil=value)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("effect", [Effect.REMOVED, Effect.INJECTED])
@pytest.mark.parametrize("varied", [False, True])
def test_a_trained_painter_in_an_attack(
    kind: Kind, effect: Effect, varied: bool, on_the_shelf: Path, thorax: Volume
) -> None:
    task = "injection" if effect is Effect.INJECTED else "removal"
    attack = CtGan(effect, varied, painters=(f"{kind}:{task}-{kind}",))
    record = attack.sample(thorax, np.random.default_rng(4))
    assert record.parameters.painter == find(f"{kind}:{task}-{kind}").pinned
    forged = attack.forged(thorax, record)
    after = attack.apply(thorax, record)
    assert record.completed(thorax, after).changed.count > 0  # type: ignore[union-attr]
    replayed = CtGan(effect, varied).forged(thorax, read_record(json.loads(json.dumps(record.to_json()))))
    assert np.array_equal(forged, replayed)


def test_a_record_replays_with_no_other_painter(on_the_shelf: Path, thorax: Volume) -> None:
    attack = CtGan(Effect.REMOVED, painters=("unet-gan:removal-unet-gan",))
    record = attack.sample(thorax, np.random.default_rng(4))
    written(on_the_shelf / "painters" / "removal-unet-gan", card(), seed=1)
    with pytest.raises(ModelError, match="not the one"):
        attack.apply(thorax, record)
    with pytest.raises(UsageError, match="for removal, not for injection"):
        CtGan(Effect.INJECTED, painters=("unet-gan:removal-unet-gan",)).sample(thorax, np.random.default_rng(0))


def test_some_injections_are_unguided(on_the_shelf: Path, thorax: Volume) -> None:
    attack = CtGan(Effect.INJECTED, painters=("unet-gan:injection-unet-gan",))
    told = [attack.sample(thorax, np.random.default_rng(s)).parameters.nodule is None for s in range(40)]
    assert 3 <= sum(told) <= 20


@pytest.mark.parametrize("kind", KINDS)
def test_a_cube_takes_less_than_a_second_of_one_core(kind: Kind) -> None:
    painter = painter_of(card(kind, "injection", CHANNELS[kind]))
    if isinstance(painter, Diffusion):
        painter = Diffusion(painter.model, painter.task)
    taken = []
    for _ in range(3):
        started = time.process_time()
        painter.paint(canvas((32, 32, 32), 6, nodule=NoduleShape(10.0)))
        taken.append(time.process_time() - started)
    assert min(taken) < 1.0
