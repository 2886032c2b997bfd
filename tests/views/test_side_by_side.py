"""Each line's job and where it went."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from course_utils.views.line_jobs import BOOK, DATA, GRAD, IDEA, LOGS, MODE, STEP, tag
from course_utils.views.side_by_side import MISSING, side_by_side

LOOP = '''
def train(model, train_set, epochs, device):
    """Train it."""
    loader_of_mine = make(train_set)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for epoch in range(epochs):
        model.train()
        for x, y in loader_of_mine:  # a comment
            x, y = x.to(device), y.to(device)

            loss = F.cross_entropy(
                model(x),
                y,
            )
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        scheduler.step()
        print(epoch, total)
'''

PORT = """
class Lit(L.LightningModule):
    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.model(batch[0]), batch[1])
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

trainer = L.Trainer(max_epochs=2, accelerator="cpu"{flags})
"""


def line_of(lines, part):
    return next(line for line in lines if part in line.text)


@pytest.mark.parametrize(
    ("part", "job", "home"),
    [
        ("torch.optim.SGD", STEP, "configure_optimizers"),
        ("StepLR", STEP, "configure_optimizers"),
        ("for epoch", BOOK, "Trainer(max_epochs=…)"),
        ("model.train()", MODE, "Trainer, by itself"),
        ("for x, y", BOOK, "Trainer, by itself"),
        (".to(device)", DATA, "Trainer(accelerator=…)"),
        ("F.cross_entropy", IDEA, "training_step"),
        ("                y,", IDEA, "training_step"),
        ("zero_grad", GRAD, "Trainer, by itself"),
        ("backward", GRAD, "Trainer, by itself"),
        ("clip_grad_norm_", GRAD, "Trainer(gradient_clip_val=…)"),
        ("optimizer.step", STEP, "Trainer, by itself"),
        ("scheduler.step", STEP, "configure_optimizers"),
        ("loss.item", BOOK, "self.log averages"),
        ("print", LOGS, "self.log"),
    ],
)
def test_each_line_has_its_job_and_home(part, job, home):
    line = line_of(tag(LOOP), part)
    assert (line.job, line.home.text) == (job, home)


def test_the_tree_decides_and_not_the_layout():
    moved = LOOP.replace("optimizer.step()", "optimizer.step(\n            )").replace(
        "model", "net"
    )
    assert [job for job in map(lambda line: line.job, tag(moved))].count(STEP) == 5
    assert line_of(tag("note = 'optimizer.step() and backward()'\n"), "note").job == BOOK


def test_sums_that_are_kept_as_tensors_are_bookkeeping():
    total, adding, result = tag(
        "total = torch.zeros((), device=device)\ntotal += loss.detach()\nreturned = total.item()"
    )
    assert [line.job for line in (total, adding, result)] == [BOOK, BOOK, BOOK]


def test_what_is_kept_of_the_best_epoch_goes_to_the_callbacks():
    lines = tag("best_loss, best_epoch, waited = inf, 0, 0\nwaited += 1\nbest = model(x)")
    assert [line.home.text for line in lines[:2]] == ["ModelCheckpoint", "EarlyStopping"]
    assert [line.job for line in lines] == [BOOK, BOOK, IDEA]


def test_building_a_logger_and_writing_to_it_is_logging():
    lines = tag('loggers = [CSVLogger(folder)]\nself.logger.experiment.add_images("x", x, 1)')
    assert [line.job for line in lines] == [LOGS, LOGS]


def test_a_function_named_train_switches_no_mode():
    assert line_of(tag("train(model, loader)\n"), "train").job != MODE
    assert line_of(tag("model.train(True)\n"), "train").job == MODE


def test_decorators_evaluation_and_loaders():
    lines = tag(
        "@torch.no_grad()\ndef check(model, x):\n    return model(x)\n\n\n"
        "def loaders(data):\n    sizes = [1]\n    return DataLoader(data)\n\n\n"
        "def evaluate(model, x):\n    logits = model(x)\n"
    )
    assert line_of(lines, "no_grad").job == MODE
    assert line_of(lines, "sizes").job == DATA
    assert line_of(lines, "logits").home.text == "validation_step"


def test_setting_up_the_trainer_is_bookkeeping():
    lines = tag("trainer = L.Trainer(\n    max_epochs=2,\n)\ntrainer.fit(lit, loader)\n")
    assert {line.job for line in lines} == {BOOK}


def test_docstrings_comments_and_blank_lines_are_left_out():
    text = "\n".join(line.text for line in tag(LOOP))
    assert "Train it" not in text and "a comment" not in text
    assert all(line.text for line in tag(LOOP))


def test_work_that_nothing_took_over_is_said():
    lost = side_by_side(LOOP, PORT.format(flags=""))
    assert "clip_grad_norm_" in "".join(lost.missing)
    assert MISSING in str(lost)
    kept = side_by_side(LOOP, PORT.format(flags=", gradient_clip_val=1.0"))
    assert kept.missing == []


def test_counts_are_those_of_the_lines():
    view = side_by_side(LOOP, PORT.format(flags=""))
    assert view.counts[GRAD] == (3, 0)
    assert sum(count[0] for count in view.counts.values()) == len([x for x in view.raw if x.job])


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


def one_step(model, optimizer, x, y):
    loss = F.mse_loss(model(x), y)
    loss.backward()
    optimizer.step()


def test_functions_classes_and_lists_give_their_source():
    text = str(side_by_side([one_step, Small]))
    assert "GRAD      loss.backward()" in text
    assert "class Small" in text
    assert "→" not in text


def test_html_shows_marks_and_escapes_code():
    page = side_by_side("if a < b:\n    print('<q>')\n", PORT.format(flags=""))._repr_html_()
    assert "LOGS" in page and "&lt;q&gt;" in page and "<q>" not in page


def test_what_has_no_source_is_a_clear_error():
    with pytest.raises(TypeError, match="cannot read the source"):
        side_by_side(torch.add)


def test_classes_and_functions_of_notebook_cells_are_found():
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance()
    shell.run_cell("class Cell:\n    def hello(self):\n        return 'first'\n")
    shell.run_cell("class Cell:\n    def hello(self):\n        return 'second'\n")
    assert "second" in str(side_by_side(shell.user_ns["Cell"]))


SCRIPT = """
parser = argparse.ArgumentParser()
parser.add_argument("--lr")
x = cut(picture)
parts = model(x)
loss = 2 * parts + extra
loss.backward()
total = count / number
"""


def test_a_script_is_told_what_its_own_functions_are_for():
    jobs = [line.job.name for line in side_by_side(SCRIPT).raw]
    assert jobs == [
        *("bookkeeping", "bookkeeping", "model and loss", "model and loss", "model and loss"),
        *("gradient", "bookkeeping"),
    ]
    told = side_by_side(SCRIPT, known={"data movement": ["cut"]}).raw
    assert told[2].job.name == "data movement" and told[2].home.text == "LightningDataModule"
    with pytest.raises(ValueError, match="No job is called 'dta'"):
        side_by_side(SCRIPT, known={"dta": ["cut"]})
