"""Style transfer: networks, losses, data, and the script that is equal to its port."""

import random
import runpy
import socket

import lightning as L
import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torchvision.models import VGG16_Weights, vgg16

from course_utils.installation import lesson_file
from course_utils.models import loss_network, style
from course_utils.models.loss_network import (
    LossNetwork,
    LossNetworkError,
    chosen_loss_network,
    load_loss_network,
    save_loss_network,
)
from course_utils.models.style import LitStyle, StylePictures, TransformNet, gram, stylize
from course_utils.parity import compare, trace
from course_utils.switches import SwitchError
from course_utils.train import KeepLast

QUIET = {
    **{"logger": False, "enable_checkpointing": False, "enable_progress_bar": False},
    **{"enable_model_summary": False, "accelerator": "cpu", "limit_val_batches": 0},
}


@pytest.fixture(autouse=True)
def vgg_not_read_yet():
    loss_network._vgg.cache_clear()
    yield
    loss_network._vgg.cache_clear()


@pytest.fixture
def network(tmp_path):
    torch.manual_seed(0)
    save_loss_network(LossNetwork(), tmp_path / "network.pt")
    return str(tmp_path / "network.pt")


def test_the_network_keeps_shape_and_range_and_uses_the_noise():
    torch.manual_seed(0)
    model = TransformNet(width=4)
    grey, noise = torch.rand(2, 1, 36, 48), torch.rand(2, 1, 36, 48)
    drawn = model(grey, noise)
    assert drawn.shape == grey.shape and 0 <= drawn.min() <= drawn.max() <= 1
    assert not torch.equal(drawn, model(grey, torch.zeros_like(noise)))


def test_style_does_not_depend_on_places_but_content_does():
    maps = [torch.rand(1, 5, 8, 8) for _ in range(2)]
    turned = [m.flip(-1) for m in maps]
    grams = [gram(m) for m in maps]
    assert style.style_loss(turned, grams) < 1e-10
    assert style.content_loss(turned, maps) > 0.1
    assert style.style_loss([0 * m for m in maps], grams) == pytest.approx(1)


def test_roughness_is_the_mean_difference_of_neighbours():
    stripes = torch.tensor([0.0, 1.0]).repeat(4).expand(1, 1, 8, 8)
    assert style.roughness(stripes) == 1
    assert style.roughness(torch.ones(1, 1, 8, 8)) == 0


@pytest.mark.parametrize("size", [(33, 47), (64, 64), (40, 301)])
def test_pictures_of_any_size_keep_it_and_their_colours(size):
    torch.manual_seed(0)
    picture = 0.4 + 0.2 * torch.rand(3, *size)
    model = TransformNet(width=4)
    model.layers[-1] = torch.nn.Hardtanh(0.45, 0.55)  # so that nothing is cut off
    result = stylize(model, picture)
    assert result.shape == picture.shape
    assert torch.equal(result, stylize(model, picture))
    before, after = picture[0] - picture[2], result[0] - result[2]
    inside = ((result > 0) & (result < 1)).all(0)
    assert inside.float().mean() > 0.9 and torch.allclose(before[inside], after[inside], atol=1e-5)


def test_pictures_and_network_may_be_on_a_gpu():
    """Fake tensors compute devices, shapes and formats, but no values: they need no GPU."""
    model = TransformNet(4)
    with FakeTensorMode():
        for module in model.modules():
            # New ones: to move or to fill theirs, older versions of torch ask CUDA's driver.
            for name, weight in list(module.named_parameters(recurse=False)):
                there = torch.empty(weight.shape, device="cuda:0")
                setattr(module, name, torch.nn.Parameter(there))
        picture = torch.rand(3, 41, 50, device="cuda:0")
        result = stylize(model, picture)
    assert (result.device.type, result.dtype) == ("cpu", torch.float32)
    assert result.shape == picture.shape


def test_the_network_may_compute_with_less_precision():
    picture = torch.rand(3, 41, 50)
    result = stylize(TransformNet(4).bfloat16(), picture)
    assert (result.dtype, result.shape) == (torch.float32, picture.shape)


def test_a_very_large_picture_is_made_smaller(monkeypatch, capsys):
    small = style.within_memory(torch.rand(3, 300, 400), most=30_000)
    assert small.shape == (3, 150, 200)
    assert "made smaller, (150, 200)" in capsys.readouterr().out


def test_the_loss_network_comes_frozen_in_evaluation_mode(network):
    found = load_loss_network(network)
    assert not any(module.training for module in found.modules())
    assert not any(parameter.requires_grad for parameter in found.parameters())
    shapes = [tuple(maps.shape) for maps in found.features(torch.rand(1, 1, 48, 48))]
    assert shapes == [(1, 24, 48, 48), (1, 48, 24, 24), (1, 64, 12, 12), (1, 64, 6, 6)]


def test_the_bundled_one_is_trained_once_and_mended_if_damaged(fresh, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PACE", "quick")
    before = torch.get_rng_state()
    first = load_loss_network("bundled")
    assert torch.equal(before, torch.get_rng_state())
    assert "Training the bundled loss network (4 steps)" in capsys.readouterr().out
    again = load_loss_network("bundled")
    assert capsys.readouterr().out == ""
    (path,) = (fresh / "cache").rglob("*.pt")
    path.write_bytes(b"damaged")
    mended = load_loss_network("bundled")
    for other in (again, mended):
        pairs = zip(first.state_dict().values(), other.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def random_states():
    """Return the states of all generators that a program shares: torch's, Python's, NumPy's."""
    return [*torch.get_rng_state().tolist(), *random.getstate()[1], *np.random.get_state()[1]]


@pytest.mark.parametrize("kind", ["trained", "from the cache", "a file", "VGG16"])
def test_no_way_to_a_loss_network_draws_a_global_random_number(
    kind, fresh, network, monkeypatch, vgg_weights
):
    monkeypatch.setenv("COURSE_PACE", "quick")
    if kind == "from the cache":
        load_loss_network("bundled")
    wanted = {"a file": network, "VGG16": "vgg"}.get(kind, "bundled")
    before = random_states()
    load_loss_network(wanted)
    assert random_states() == before


def test_training_a_loss_network_leaves_the_generators_of_gpus_alone(monkeypatch):
    """`torch.manual_seed` seeds all GPUs too; no GPU is needed to see that it is not called."""

    def refuse(seed):
        raise AssertionError("all devices were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", refuse)
    loss_network.train_loss_network(0)


def test_a_module_is_trained_alike_with_an_empty_and_with_a_filled_cache(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_PACE", "quick")
    cold, warm = (port("bundled", epochs=1) for _ in range(2))
    compare(cold, warm).assert_identical()


def test_the_bundled_one_is_trained_on_one_thread_wherever_it_is_asked_for(fresh, monkeypatch):
    seen = []

    def train(steps):
        seen.append(torch.get_num_threads())
        return LossNetwork(), []

    monkeypatch.setattr(loss_network, "train_loss_network", train)
    torch.set_num_threads(2)
    load_loss_network("bundled")
    assert seen == [1] and torch.get_num_threads() == 2


def test_the_bundled_one_can_be_trained_where_no_gradients_are_kept(fresh, monkeypatch):
    monkeypatch.setenv("COURSE_PACE", "quick")
    with torch.inference_mode():
        load_loss_network("bundled")


def test_brightness_and_contrast_of_crops_vary():
    flat = [torch.full((1, 60, 60), 0.9)]
    crops, labels = loss_network.crops_of(flat, 48, 30, torch.Generator().manual_seed(0))
    levels = crops.mean((1, 2, 3))
    assert crops.shape == (30, 1, 48, 48) and not labels.any()
    assert levels.std() > 0.1 and torch.all(crops.std((1, 2, 3)) < 1e-6)


def test_it_learns_to_tell_pictures_apart():
    _, accuracies = loss_network.train_loss_network(40)
    assert sum(accuracies[-10:]) / 10 > 2 / 14  # twice as good as chance


@pytest.mark.parametrize("content", [None, b"text", {"a": torch.zeros(1)}])
def test_a_file_that_holds_no_loss_network_is_refused(content, tmp_path):
    path = tmp_path / "wrong.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        torch.save(content, path)
    with pytest.raises(LossNetworkError, match="wrong.pt"):
        load_loss_network(str(path))


@pytest.fixture
def vgg_weights(monkeypatch):
    """Give VGG16 random weights in place of a download; what is asked is kept under "asked"."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        layers = vgg16().features[:23]
    state = {
        f"features.{name}": torch.rand(like.shape, generator=generator)
        for name, like in layers.state_dict().items()
    }
    asked = {}

    def get_state_dict(self, **options):
        asked.update(options)
        return state

    monkeypatch.setattr(VGG16_Weights, "get_state_dict", get_state_dict)
    return state | {"asked": asked}


@pytest.mark.parametrize(
    "name", ["n" * 300, "n" * 5000, "~nobody-of-this-name/x", "a\0b", "\x1b[31m"]
)
def test_a_name_that_no_file_can_have_is_refused_in_one_line(name):
    with pytest.raises(LossNetworkError, match="there is no such file") as caught:
        load_loss_network(name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


@pytest.mark.parametrize("cache", ["n" * 300, "file/folder"])
def test_without_a_cache_it_is_trained_and_a_line_says_that_it_cannot_be_kept(
    fresh, monkeypatch, capsys, cache
):
    (fresh / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(fresh / cache))
    monkeypatch.setenv("COURSE_PACE", "quick")
    load_loss_network("bundled")
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("It cannot be kept for the next time (")


def test_what_a_server_says_about_vgg_is_not_shown_raw(monkeypatch):
    def refuse(*args, **options):
        raise RuntimeError("\x1b]0;mine\x07" + "no " * 5000)

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(LossNetworkError) as caught:
        load_loss_network("vgg")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


def test_vgg_is_read_from_torchvisions_cache(monkeypatch, vgg_weights):
    state = vgg_weights
    monkeypatch.setenv("COURSE_STYLE", "vgg")
    assert chosen_loss_network() == "vgg"
    found = load_loss_network("vgg")
    assert state["asked"]["check_hash"] and state["asked"]["weights_only"]
    shapes = [tuple(maps.shape[1:]) for maps in found.features(torch.rand(1, 1, 32, 32))]
    assert shapes == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    assert len(found.features(torch.rand(1, 1, 32, 32), stages=2)) == 2
    assert torch.equal(found.layers[0].weight, state["features.0.weight"])
    assert not any(parameter.requires_grad for parameter in found.parameters())
    # Each one has weights of its own: who trains one by mistake leaves the next one as it was.
    with torch.no_grad():
        found.layers[0].weight.zero_()
    assert load_loss_network("vgg").layers[0].weight.all()


def test_without_a_network_the_bundled_one_takes_its_place(monkeypatch, capsys, fresh):
    def offline(*args, **options):
        raise OSError("Network is unreachable")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", offline)
    monkeypatch.setenv("COURSE_STYLE", "vgg")
    assert chosen_loss_network() == "bundled"
    said = capsys.readouterr().out
    assert "VGG16 cannot be had (Network is unreachable)" in said and "The bundled" in said
    with pytest.raises(LossNetworkError, match="528 MB"):
        load_loss_network("vgg")
    assert socket.getdefaulttimeout() is None  # other connections wait as before


def test_the_switch_knows_two_values(monkeypatch):
    monkeypatch.delenv("COURSE_STYLE", raising=False)
    assert chosen_loss_network() == "bundled"
    monkeypatch.setenv("COURSE_STYLE", "resnet")
    with pytest.raises(SwitchError, match="bundled, vgg"):
        chosen_loss_network()


@pytest.mark.parametrize("size", [34, 28, 400])
def test_a_size_that_does_not_fit_is_refused(size):
    with pytest.raises(style.SizeError, match="multiple of 4, from 32 to"):
        StylePictures(size=size).train_dataloader()


def test_validation_crops_stay_and_training_crops_do_not():
    data = StylePictures(size=32, batch_size=2, steps=3)
    train, validation = data.train_dataloader(), data.val_dataloader()
    first, second = (torch.cat(list(train)) for _ in range(2))
    assert first.shape == (6, 1, 32, 32) and not torch.equal(first, second)
    assert torch.equal(*(torch.cat(list(validation)) for _ in range(2)))


def port(network, system=LitStyle, epochs=2, **options):
    L.seed_everything(42, verbose=False)
    lit = system(loss_network=network, width=4)
    with trace(lit.model) as record:
        trainer = L.Trainer(**QUIET, max_epochs=epochs, **options)
        trainer.fit(lit, StylePictures(size=32, steps=3))
    return record


def script(network, folder, *more):
    main = runpy.run_path(str(lesson_file("style_script.py")))["main"]
    words = ["--loss-network", network, "--out-dir", str(folder), "--device", "cpu"]
    words += ["--steps", "6", "--size", "32", "--width", "4", "--sample-every", "2"]
    with trace(TransformNet) as record:
        main([*words, *more])
    return record


def test_script_and_port_are_identical(network, tmp_path):
    raw = script(network, tmp_path / "out")
    compare(raw, port(network)).assert_identical()
    assert {"log.csv", "weights.pt", "checkpoint.pt"} < {
        f.name for f in (tmp_path / "out").iterdir()
    }
    other = script(network, tmp_path / "out", "--content-weight", "0.31")
    assert compare(other, port(network)).verdict == "different"


def test_the_script_refuses_a_wrong_size(network, tmp_path, capsys):
    for size, complaint in {"30": "multiple of 4", "400": "larger than one"}.items():
        with pytest.raises(SystemExit):
            script(network, tmp_path, "--size", size)
        assert complaint in capsys.readouterr().err


def test_targets_are_buffers_and_only_the_network_is_trained(network):
    lit = LitStyle(loss_network=network, width=4)
    assert sum("gram_" in name for name, _ in lit.named_buffers()) == 4
    trained = {id(p) for g in lit.configure_optimizers().param_groups for p in g["params"]}
    assert trained == {id(p) for p in lit.model.parameters()}


def test_a_checkpoint_brings_the_module_back(network, tmp_path):
    lit = LitStyle(loss_network=network, width=4, style="brick", lr=0.01)
    trainer = L.Trainer(**QUIET, max_steps=1)
    trainer.fit(lit, StylePictures(size=32, steps=1))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = LitStyle.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert again.hparams == lit.hparams
    pairs = zip(lit.state_dict().values(), again.state_dict().values(), strict=True)
    assert all(torch.equal(a.cpu(), b) for a, b in pairs)


def test_validation_measures_the_same_each_time(network):
    lit, data = LitStyle(loss_network=network, width=4), StylePictures(size=32)
    trainer = L.Trainer(**QUIET | {"limit_val_batches": 1})
    first, second = (trainer.validate(lit, data, verbose=False) for _ in range(2))
    assert first == second and set(first[0]) == {
        f"val_{part}" for part in ("loss", "style", "content", "roughness")
    }


def test_a_run_that_resumes_sees_the_crops_and_the_noise_that_it_would_have_seen(network, tmp_path):
    def weights(epochs, resume=None):
        L.seed_everything(42, verbose=False)
        lit = LitStyle(loss_network=network, width=4)
        keep = KeepLast(tmp_path / "last.ckpt")
        options = QUIET | {"enable_checkpointing": True, "max_epochs": epochs, "callbacks": [keep]}
        data = StylePictures(size=32, steps=2)
        L.Trainer(**options).fit(lit, data, ckpt_path=resume, weights_only=True if resume else None)
        return torch.cat([p.detach().flatten() for p in lit.model.parameters()])

    whole, half = weights(2), weights(1)
    assert not torch.equal(whole, half)
    assert torch.equal(whole, weights(2, resume=tmp_path / "last.ckpt"))


def test_looking_at_samples_does_not_change_the_training(network):
    samples = style.SamplePictures("chelsea", every=2, longest=64)
    compare(port(network), port(network, callbacks=[samples])).assert_identical()
    assert list(samples.pictures) == [0, 2, 4, 6]
