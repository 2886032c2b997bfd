"""The log of a run: every row is on the disk at once, and rows of an epoch stand in it once."""

from train_runs import rows

from course_utils.train.log import KeptLog


def epochs(path):
    return [row["epoch"] for row in rows(path)]


def test_nothing_is_written_before_the_log_is_opened(tmp_path):
    log = KeptLog(tmp_path / "log")
    log.log_hyperparams({"lr": 0.1})
    log.log_metrics({"loss": 1.0, "epoch": 0}, step=0)
    assert not (tmp_path / "log").exists()
    log.open(0)
    assert rows(log.path) == [{"epoch": "0", "loss": "1.0", "step": "0"}]
    assert (tmp_path / "log" / "hparams.yaml").read_text() == "lr: 0.1\n"


def test_every_row_is_written_at_once_and_new_columns_join_the_old(tmp_path):
    log = KeptLog(tmp_path)
    log.open(0)
    for number, metrics in enumerate([{"loss": 1.0}, {"loss": 2.0}, {"acc": 3.0}, {"loss": 4.0}]):
        log.log_metrics({"epoch": 0, **metrics}, step=number)
        assert len(rows(log.path)) == number + 1
    assert [row["loss"] for row in rows(log.path)] == ["1.0", "2.0", "", "4.0"]
    assert [row["acc"] for row in rows(log.path)] == ["", "", "3.0", ""]


def test_a_resumed_log_keeps_the_epochs_before_and_drops_the_rest(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "epoch,loss,step\n0,1,1\n,7,2\n0,2,2\n1,3,3\n,8,4\n2,4,5\n2,5,6\n5,1"
    )
    log = KeptLog(tmp_path)
    log.open(2)
    assert [row["loss"] for row in rows(log.path)] == ["1", "7", "2", "3"]
    log.log_metrics({"epoch": 2, "loss": 9}, step=5)
    assert epochs(log.path) == ["0", "", "0", "1", "2"]


def test_a_new_log_replaces_an_old_one(tmp_path):
    (tmp_path / "metrics.csv").write_text("epoch,step\n0,1\n")
    log = KeptLog(tmp_path)
    log.open(0)
    assert rows(log.path) == []


def test_a_log_that_is_gone_or_damaged_is_begun_anew(tmp_path):
    for content in (None, b"\0\xff\xfe", b"epoch\n\xff\n"):
        path = tmp_path / "metrics.csv"
        if content is not None:
            path.write_bytes(content)
        log = KeptLog(tmp_path)
        log.open(3)
        log.log_metrics({"epoch": 3}, step=1)
        assert epochs(log.path) == ["3"]
