"""Loop and port in three forms that carry the same lines: plain text, without styles, styled."""

import re

import pytest
from sanitised import sanitised, text_of, texts_of
from test_side_by_side import LOOP, PORT

from course_utils.views.side_by_side import side_by_side

CLIPPED = PORT.format(flags=", gradient_clip_val=1.0")
TRAPS = '''
def odd(model):
    words = """first
      second < third & "fourth"
    """
    return f"{words!r:>8}" + '\\t' if model else r"\\d"
'''


def view(port=CLIPPED):
    return side_by_side(LOOP, port)


def listed(page):
    """Return the lines that stand in the `<pre>` of a page."""
    return [line for pre in texts_of(page, "pre") for line in pre.splitlines()]


@pytest.mark.parametrize("port", [CLIPPED, PORT.format(flags=""), TRAPS, ""])
@pytest.mark.parametrize("loop", [LOOP, TRAPS])
def test_the_three_forms_carry_the_same_lines(loop, port):
    both = side_by_side(loop, port)
    page, bare = both._repr_html_(), sanitised(both._repr_html_())
    assert listed(page) == listed(bare)
    lines = iter(str(both).splitlines())
    assert all(line in lines for line in listed(bare))  # all of them, in this order
    assert len(listed(bare)) >= len([x for x in both.raw + both.lit if x.text])


@pytest.mark.parametrize("port", [CLIPPED, ""])
def test_without_styles_each_line_keeps_its_indentation(port):
    bare = sanitised(side_by_side(LOOP, port)._repr_html_())
    lines = iter(listed(bare))
    for wanted in side_by_side(LOOP, port).raw:
        assert any(wanted.text in line.partition("→")[0] for line in lines), wanted.text
    assert bare.count("<pre>") == (2 if port else 1)


def test_the_sanitiser_finds_what_would_be_lost():
    page = "<p style='x'>a</p><style>p {}</style><code class='k' id='i'>  b\n    c</code>"
    assert sanitised(page) == "<p>a</p><code>  b\n    c</code>"
    assert text_of("<script>x</script>a<br>b") == "ab"


def test_each_line_of_the_loop_goes_to_its_line_of_the_port():
    went = dict((a.strip(), b.strip()) for a, b in view().pairs)
    assert went["loss = F.cross_entropy("].startswith("loss = F.cross_entropy(self.model")
    assert went["y,"] == went[")"] == went["loss = F.cross_entropy("]
    assert went["optimizer = torch.optim.SGD(model.parameters(), lr=0.1)"].startswith(
        "return torch"
    )
    assert went["scheduler.step()"] == "def configure_optimizers(self):"
    assert went["total += loss.item()"] == 'self.log("train_loss", loss)'
    assert went["for epoch in range(epochs):"].startswith("trainer = L.Trainer(max_epochs=2")
    clipping = "torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)"
    assert "gradient_clip_val=1.0" in went[clipping]
    assert went["optimizer.zero_grad()"] == went["loss.backward()"] == "Trainer, by itself"


def test_losses_of_training_and_validation_go_to_their_own_line():
    loop = (
        "def train(model, batches):\n    for x in batches:\n        loss = model(x).mean()\n"
        "        loss.backward()\n        total += loss.item()\n\n\n"
        "def evaluate(model, batches):\n    for x in batches:\n        total += model(x).mean()\n"
        "        sums += loss.item()\n"
    )
    port = (
        "class Lit(L.LightningModule):\n    def training_step(self, x):\n"
        '        self.log("train_loss", self(x).mean())\n    def validation_step(self, x):\n'
        '        self._shared(x, "val")\n    def _evaluate(self, x):\n'
        '        self.log("val_loss", loss)\n'
    )
    went = dict((a.strip(), b.strip()) for a, b in side_by_side(loop, port).pairs)
    assert went["total += loss.item()"] == 'self.log("train_loss", self(x).mean())'
    assert went["sums += loss.item()"] == 'self.log("val_loss", loss)'


def test_what_a_hook_calls_belongs_to_it():
    loop = "def evaluate(model, x):\n    logits = model(x)\n    return logits\n"
    port = (
        "class Lit(L.LightningModule):\n    def validation_step(self, x):\n"
        "        self._shared(x)\n    def _shared(self, x):\n        logits = self.model(x)\n"
    )
    assert ("    logits = model(x)", "        logits = self.model(x)") in side_by_side(
        loop, port
    ).pairs


def test_the_text_says_the_number_of_the_ports_line():
    text = str(view())
    (number,) = re.findall(r"loss = F\.cross_entropy\( +→ (\d+) training_step", text)
    assert re.search(rf"^ *{number}  IDEA +loss = F\.cross_entropy\(self", text, re.MULTILINE)
    assert "Trainer, by itself: 6 lines of the loop" in text


def marked(page, part):
    """Return the classes and the HTML of the line that has a part in its text."""
    page = page.split("</style>")[1].replace("<pre>", "\n").replace("</pre>", "\n")
    lines = re.findall(r'^<span class="(l[^"]*)"[^>]*>(.*)</span>$', page, re.MULTILINE)
    return next((names.split(), line) for names, line in lines if part in text_of(line))


def test_both_ends_of_a_pair_are_in_one_group_that_lights_up():
    page = view()._repr_html_()
    ends = [marked(page, part)[0][-1] for part in ("model.train()", "Trainer, by itself: 6")]
    assert {"gone", ends[1]} <= set(marked(page, "model.train()")[0])
    ends = [marked(page, part)[0][-1] for part in ("cross_entropy( ", "cross_entropy(self")]
    assert ends[0] == ends[1] != marked(page, "print")[0][-1]
    assert f".shown:has(.{ends[0]}:is(:hover,:focus)) .{ends[0]}" in page
    grouped = re.findall(r'<span class="l[^"]* d\d+[^"]*"[^>]*>', page)
    assert grouped and all('tabindex="0"' in line for line in grouped)


def test_what_vanished_is_struck_out_without_styles_too():
    bare = sanitised(view()._repr_html_())
    gone = texts_of(bare, "del")
    assert "optimizer.zero_grad()" in gone and "loss.backward()" in gone
    assert not any("cross_entropy" in line or "SGD" in line for line in gone)
    assert all(line == line.strip() for line in gone)  # no line through the indentation
    assert texts_of(sanitised(side_by_side(LOOP)._repr_html_()), "del") == []


def test_lost_work_stands_out():
    page = view(PORT.format(flags=""))._repr_html_()
    names, line = marked(page, "clip_grad_norm_")
    assert {"gone", "lost"} <= set(names) and "→ not in the port" in text_of(line)
    assert "lost" not in marked(page, "zero_grad")[0]
    assert "lost" not in re.findall(r'class="(l [^"]*)"', view()._repr_html_())


def test_a_view_stays_small():
    """A lesson shows four of them and has 600 kB, pictures included."""
    long = LOOP * 4
    lines = len(side_by_side(long, CLIPPED).raw)
    assert len(side_by_side(long, CLIPPED)._repr_html_()) < 9_000 + 450 * lines
