"""Lines to be put in order, as cards that are moved to their places: by pointer or by keyboard."""

from collections.abc import Mapping, Sequence

import anywidget
import traitlets

from course_utils.kernel import in_notebook

# The state is `placed`, letters by place; what is in none of them lies in the first column. Cards
# are drawn anew from it after each move, also one that Python or another view has made.
SCRIPT = """
const POOL = "";  // the name of the column of lines that have no place yet
const HELP = "Drag a line to its place. Or go to it with Tab: ← → change its place, " +
  "↑ ↓ its order, Enter opens a menu of places.";

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function render({ model, el }) {
  const rows = model.get("rows"), places = [POOL, ...model.get("places")];
  const status = make("p", { role: "status", "aria-live": "polite" }, "");
  const clear = make("button", { type: "button", class: "clear" }, "All back");
  const columns = make("div", { class: "columns" });
  const asleep = make("p", { class: "asleep" }, "The kernel was restarted: run this cell again.");
  const root = make("div", { class: "placing", "data-lm-suppress-shortcuts": "true" },
    make("p", {}, HELP), columns, make("div", { class: "foot" }, clear, status), asleep);
  el.append(root);

  const named = (place) => place === POOL ? "lines without a place" : place;

  function current() {
    const placed = model.get("placed"), used = new Set(Object.values(placed).flat());
    const all = { [POOL]: Object.keys(rows).filter((letter) => !used.has(letter)) };
    for (const place of places.slice(1)) all[place] = [...(placed[place] ?? [])];
    return all;
  }

  function keep(all) {
    const placed = Object.fromEntries(places.slice(1).map((place) => [place, all[place]]));
    model.set("placed", placed);
    model.save_changes();
    draw();
  }

  function move(letter, place, index) {
    const all = current();
    for (const letters of Object.values(all)) {
      if (letters.includes(letter)) letters.splice(letters.indexOf(letter), 1);
    }
    if (index === undefined) index = all[place].length;
    all[place].splice(index, 0, letter);
    keep(all);
    tell(letter);
  }

  function find(letter) {
    const all = current();
    const place = places.find((name) => all[name].includes(letter));
    return [place, all[place].indexOf(letter), all[place].length];
  }

  function tell(letter) {
    const [place, index, count] = find(letter);
    status.textContent = place === POOL ? `Line ${letter} has no place.`
      : `Line ${letter}: ${index + 1} of ${count} in ${place}.`;
  }

  function step(letter, by) {  // within its place; lines without one keep their order
    const [place, index, count] = find(letter);
    if (place === POOL) tell(letter);
    else move(letter, place, Math.min(Math.max(index + by, 0), count - 1));
  }

  function aside(letter, by) {
    const at = places.indexOf(find(letter)[0]) + by;
    if (at >= 0 && at < places.length) move(letter, places[at]);
  }

  function focus(letter) {
    columns.querySelector(`[data-letter="${letter}"] button`)?.focus();
  }

  function menu(letter, place) {
    const options = places.map((name) => make("option", { value: `to ${name}` }, named(name)));
    options.forEach((option, at) => { option.selected = places[at] === place; });
    const select = make("select", { "aria-label": `Place of line ${letter}` }, ...options);
    if (place !== POOL) {
      select.append(make("option", { value: "up" }, "↑ one up"),
        make("option", { value: "down" }, "↓ one down"));
    }
    select.addEventListener("keydown", (event) => event.stopPropagation());
    select.addEventListener("change", () => {
      if (select.value === "up") step(letter, -1);
      else if (select.value === "down") step(letter, 1);
      else move(letter, select.value.slice(3));
      focus(letter);
    });
    return select;
  }

  function card(letter, place, index, count) {
    const where = place === POOL ? "without a place" : `${index + 1} of ${count} in ${place}`;
    const label = `Line ${letter}, ${where}: ${rows[letter].trim()}`;
    const grip = make("span", { class: "grip", "aria-hidden": "true" }, "⠿");
    const line = make("button", { type: "button", "aria-label": label },
      make("b", {}, letter), make("code", {}, rows[letter]));
    const select = menu(letter, place);
    const item = make("li", { "data-letter": letter }, grip, line,
      make("span", { class: "menu" }, select));
    line.addEventListener("keydown", (event) => {
      const { key } = event;
      const moves = { ArrowUp: [step, -1], ArrowDown: [step, 1], ArrowLeft: [aside, -1],
        ArrowRight: [aside, 1] };
      if (event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) return;
      if (!(key in moves) && key !== "Enter" && key !== " ") return;
      event.preventDefault();
      event.stopPropagation();
      if (key in moves) {
        moves[key][0](letter, moves[key][1]);
        focus(letter);
      } else {
        select.focus();
        try { select.showPicker(); } catch { /* older browsers: the menu has the focus */ }
      }
    });
    item.addEventListener("pointerdown", (event) => {
      const byTouch = event.pointerType === "touch";  // a finger on the text scrolls the page
      if (event.button === 0 && event.target !== select && (!byTouch || event.target === grip)) {
        drag(item, letter, event);
      }
    });
    return item;
  }

  function drag(item, letter, start) {
    const ended = new AbortController(), { signal } = ended;
    let moving = false;
    const on = (name, act) => window.addEventListener(name, act, { signal, capture: true });
    function stop() {
      ended.abort();
      root.classList.remove("dragging");
    }
    on("pointermove", (event) => {
      if (event.pointerId !== start.pointerId) return;
      const far = Math.hypot(event.clientX - start.clientX, event.clientY - start.clientY);
      if (!moving && far < 5) return;
      moving = true;
      event.preventDefault();
      root.classList.add("dragging");
      item.classList.add("held");
      const under = el.getRootNode().elementFromPoint(event.clientX, event.clientY);
      const list = under?.closest?.(".placing section")?.querySelector("ol");
      if (!list || !root.contains(list)) return;
      const next = [...list.children].find((other) => {
        const box = other.getBoundingClientRect();
        return other !== item && event.clientY < box.top + box.height / 2;
      });
      if (item.parentNode !== list || item.nextSibling !== (next ?? null)) {
        list.insertBefore(item, next ?? null);
      }
    });
    on("pointerup", (event) => {
      if (event.pointerId !== start.pointerId) return;
      stop();
      if (!moving) return;
      const list = item.parentNode, index = [...list.children].indexOf(item);
      move(letter, list.closest("section").dataset.place, index);
      focus(letter);
    });
    on("pointercancel", () => { stop(); draw(); });
    on("keydown", (event) => { if (event.key === "Escape") { stop(); draw(); } });
  }

  function draw() {
    const all = current();
    const at = root.contains(document.activeElement)
      ? document.activeElement.closest("[data-letter]")?.dataset.letter : null;
    const [pool, ...homes] = places.map((place) => {
      const letters = all[place];
      const title = make(place === POOL ? "span" : "code", {}, place || "Lines");
      const cards = letters.map((one, index) => card(one, place, index, letters.length));
      return make("section", { "data-place": place, role: "group", "aria-label": named(place) },
        make("h4", {}, title), make("ol", {}, ...cards));
    });
    columns.replaceChildren(pool, make("div", {}, ...homes));
    if (at) focus(at);
  }

  clear.addEventListener("click", () => {
    keep(Object.fromEntries(places.map((place) => [place, []])));
    status.textContent = "No line has a place.";
  });
  model.on("change:placed", draw);
  draw();
  return () => model.off("change:placed", draw);
}

export default { render };
"""

# All in the page's own ink, so that it reads in light and in dark.
STYLE = """
.placing { color: var(--jp-content-font-color1, var(--colab-primary-text-color,
  var(--vscode-editor-foreground, inherit))); font: 14px/1.45 system-ui, sans-serif;
  width: 100%; box-sizing: border-box; padding: 2px 3px }
.placing p { margin: 2px 0 6px }
.placing .columns { display: flex; flex-wrap: wrap; gap: 8px }
.placing .columns > * { flex: 1 1 21em; min-width: 0 }
.placing .columns > div { display: flex; flex-direction: column; gap: 8px }
.placing section { padding: 6px; border-radius: 6px;
  border: 1px solid color-mix(in srgb, currentColor 40%, transparent) }
.placing section[data-place=""] { border-style: dashed }
.placing h4 { margin: 0 0 4px; font: 600 14px/1.4 system-ui, sans-serif; color: inherit }
.placing code { padding: 0; background: none; color: inherit; white-space: pre-wrap;
  overflow-wrap: anywhere; font: 13px/1.45 ui-monospace, SFMono-Regular, Menlo, monospace }
.placing ol { min-height: 34px; margin: 0; padding: 0; list-style: none }
.placing li { display: flex; align-items: center; gap: 4px; margin: 0 0 4px; padding: 2px 4px;
  border-radius: 5px; background: color-mix(in srgb, currentColor 9%, transparent); cursor: grab;
  user-select: none }
.placing li button { flex: 1; min-width: 0; display: flex; gap: 8px; padding: 3px 4px; border: 0;
  border-radius: 4px; background: none; color: inherit; font: inherit; text-align: left;
  cursor: inherit }
.placing .grip { padding: 4px 3px; touch-action: none; opacity: .65 }
.placing .menu { position: relative; flex: none; width: 28px; height: 28px }
.placing .menu::after { content: "▾"; position: absolute; inset: 0; line-height: 28px;
  text-align: center; pointer-events: none }
.placing .menu select { appearance: none; width: 100%; height: 100%; margin: 0; padding: 0 8px;
  border: 0; border-radius: 4px; background: none; color: transparent; font: inherit;
  cursor: pointer }
.placing option { background: Canvas; color: CanvasText }
.placing :is(button, select):focus-visible { outline: 3px solid #2b8fd0; outline-offset: 1px }
.placing .held { outline: 2px dashed currentColor; opacity: .8 }
.placing.dragging, .placing.dragging * { cursor: grabbing }
.placing .foot { display: flex; gap: 12px; align-items: center; min-height: 30px; margin-top: 6px }
.placing .foot p { margin: 0 }
.placing .clear { padding: 3px 10px; border-radius: 4px; background: none; color: inherit;
  font: inherit; border: 1px solid color-mix(in srgb, currentColor 40%, transparent) }
.placing .asleep { display: none; font-weight: 600 }
.jupyter-widgets-disconnected .placing .asleep { display: block }
"""


class Placing(anywidget.AnyWidget):
    """Cards with lines, and places for them; `placed` holds the letters of each place in order.

    `rows` are the lines by letter, `places` the places' names. Of a state that comes from
    elsewhere, unknown places and letters and those that are placed twice are left out. `words` and
    `html` are shown where no widget runs.
    """

    _esm = SCRIPT
    _css = STYLE
    rows = traitlets.Dict().tag(sync=True)
    places = traitlets.List().tag(sync=True)
    placed = traitlets.Dict().tag(sync=True)

    def __init__(self, rows: Mapping[str, str], places: Sequence[str], words: str, html: str):
        self.words, self.html = words, html
        super().__init__(rows=dict(rows), places=list(places), placed={})

    @traitlets.validate("placed")
    def _known(self, proposal) -> dict[str, list[str]]:
        left, kept = set(self.rows), {}
        for place in self.places:
            kept[place] = []
            letters = proposal["value"].get(place)
            for letter in letters if isinstance(letters, (list, tuple, str)) else ():
                if isinstance(letter, str) and letter in left:
                    left.remove(letter)
                    kept[place].append(letter)
        return kept

    def __repr__(self) -> str:
        """Return the lines and places as plain text."""
        return self.words

    def _repr_mimebundle_(self, **kwargs) -> tuple[dict, dict]:
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**(data or {}), "text/plain": self.words, "text/html": self.html}, metadata


def placing(rows: Mapping[str, str], places: Sequence[str], words: str, html: str):
    """Return a widget in which lines are put to their places, or None where no notebook runs.

    The parameters are those of `Placing`; it shows `words` or `html` where only its outputs are
    displayed, as on GitHub.
    """
    return Placing(rows, places, words, html) if in_notebook() else None
