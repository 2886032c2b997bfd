"""Before a lesson: OK, or what to do."""

from types import SimpleNamespace

import pytest

from course_utils import preflight


def test_a_computer_that_is_ready_is_told_so(fresh, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_DATA", "sample")
    assert preflight.main() == 0
    told = capsys.readouterr().out
    assert told.rstrip().endswith("OK: this computer is ready.")
    assert f"OK    {preflight.SEEN}" in told and "digits: the bundled sample" in told
    assert not (fresh / "work" / "notebooks" / "runs").exists()


def kernel(monkeypatch, starts):
    monkeypatch.setattr("jupyter_client.manager.start_new_kernel", starts)
    monkeypatch.setattr(preflight, "check_installation", lambda: True)
    monkeypatch.setenv("COURSE_DATA", "sample")


def test_a_kernel_that_does_not_start_is_named(fresh, monkeypatch, capsys):
    def starts(**options):
        raise RuntimeError("Kernel didn't respond\nin time")

    kernel(monkeypatch, starts)
    assert preflight.main() == 1
    told = capsys.readouterr().out
    assert "FAIL  no notebook kernel starts" in told and "127.0.0.1" in told
    assert told.rstrip().splitlines()[-1].startswith("NOT READY")


@pytest.mark.parametrize("content", [{"ename": "ImportError", "evalue": "torch"}, {}])
def test_a_notebook_that_cannot_compute_is_named(fresh, monkeypatch, capsys, content):
    client = SimpleNamespace(
        execute_interactive=lambda code, output_hook, **_: output_hook({"content": content}),
        stop_channels=lambda: None,
    )
    manager = SimpleNamespace(shutdown_kernel=lambda now: None)
    kernel(monkeypatch, lambda **options: (manager, client))
    assert preflight.main() == 1
    assert "FAIL  a notebook cannot compute" in capsys.readouterr().out


def test_a_full_disk_is_named(fresh, monkeypatch, capsys):
    usage = SimpleNamespace(free=1_000_000)
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: usage)
    kernel(monkeypatch, lambda **options: 1 / 0)
    assert preflight.main() == 1
    assert "FAIL  only 1 MB are free" in capsys.readouterr().out
