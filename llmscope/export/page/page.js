// Draw figures from their numbers, with exact values on hover and one token position as a cursor.
//
// `llmscope.export.page.data` says what the data holds. Nothing here reads from elsewhere, and every text
// reaches the page as text: the data is the only input, and no markup is made of it.

const SVG = "http://www.w3.org/2000/svg";
const SHARED = new Set(["layer", "head", "layer.head", "neuron", "expert", "training step"]);
const LISTED = 6; // values at the cursor that are listed
const WIDEST_LABEL = 150, TALLEST_LABEL = 110, LARGEST_CANVAS = 16384, MOST_TILES = 64;
const HELP = "hover or tap: the exact value · cursor on a token: ← → Home End, or click · " +
  "↑ ↓ layer or row · [ ] head or other axis · Tab next figure";

function element(tag, name, text) {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
}

function drawn(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// A label in a line of other text, which its own direction of writing must not reorder.
function isolated(text, name) {
  return element("bdi", name, text);
}

async function unpacked({ type, data }) {
  const text = atob(data), bytes = new Uint8Array(text.length);
  for (let at = 0; at < text.length; at++) bytes[at] = text.charCodeAt(at);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return type === "f4" ? new Float32Array(buffer) : new Float64Array(buffer);
}

// The shortest decimal number that is this float32 and no other.
function exact(value) {
  if (Number.isNaN(value)) return "no value";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  for (let digits = 1; digits <= 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return String(short);
  }
  return String(value);
}

function brief(value) {
  const size = Math.abs(value);
  if (Number.isNaN(value)) return "";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (size === 0) return "0";
  if (size >= 1e4 || size < 9.5e-4) return value.toExponential(size >= 1e4 ? 1 : 0);
  return value.toFixed(size >= 99.5 ? 0 : size >= 9.95 ? 1 : size >= 0.0095 ? 2 : 3);
}

function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

function rgb(hex) {
  return [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
}

// The step of a ramp that shows a value; -1 for a missing one.
function stepOf(scale, value, count) {
  if (Number.isNaN(value)) return -1;
  const { low, high, kind } = scale, held = clamp(value, low, high);
  if (!(high > low)) return Math.round(0.5 * (count - 1));
  const share = kind === "log" ? Math.log(held / low) / Math.log(high / low)
    : (held - low) / (high - low);
  return Math.round(clamp(share, 0, 1) * (count - 1));
}

class Ramps {
  constructor(colors) {
    this.marks = colors.marks;
    this.all = { sequential: colors.sequential, diverging: colors.diverging };
    this.bytes = {};
    for (const [name, ramp] of Object.entries(this.all)) {
      this.bytes[name] = ramp.map(([background]) => rgb(background));
    }
  }

  of(scale) {
    return scale.kind === "signed" ? "diverging" : "sequential";
  }

  // Background and text of a value; null for a missing one.
  pair(scale, value) {
    const ramp = this.all[this.of(scale)], step = stepOf(scale, value, ramp.length);
    return step < 0 ? null : ramp[step];
  }
}

// A figure on the page: its numbers, what is selected in it, and the lines of text around it.
class View {
  constructor(page, record, values, details) {
    Object.assign(this, { page, record, values, details });
    this.axes = record.axes;
    this.sizes = this.axes.map((axis) => axis.labels.length);
    this.strides = this.sizes.map((_, at) => this.sizes.slice(at + 1).reduce((a, b) => a * b, 1));
    this.own = this.axes.map((axis) => axis.at);
    const along = this.axes.map((axis, at) => (axis.along ? at : -1)).filter((at) => at >= 0);
    this.token = along.find((at) => this.axes[at].name !== "key") ?? along[0] ?? -1;
    const last = this.axes.length - 1;
    const flat = record.draw === "bars" || record.draw === "tokens";
    [this.rows, this.columns] = flat ? [last, -1] : [last - 1, last];
    if (record.draw === "table" && last === 0) [this.rows, this.columns] = [0, -1];
    if (record.draw === "heatmap" && last > 0) {
      const [row, column] = [this.axes[this.rows], this.axes[this.columns]];
      if (row.along && !column.along) [this.rows, this.columns] = [this.columns, this.rows];
    }
    this.choosers = this.axes.map((_, at) => at)
      .filter((at) => at !== this.rows && at !== this.columns);
    this.second = this.secondAxis();
    // Without tokens across or down, the keys left and right move along the columns.
    this.across = [this.rows, this.columns].some((at) => at >= 0 && this.axes[at].along)
      ? -1 : this.columns;
    this.hovered = null;
  }

  // The axis that the keys up and down move along; -1 without one.
  secondAxis() {
    const chooser = this.choosers.filter((at) => at !== this.token).at(-1) ?? -1;
    const others = [this.rows, this.columns].filter((at) => at >= 0 && at !== this.token);
    const plain = others.find((at) => !this.axes[at].along);
    return plain ?? (chooser >= 0 ? chooser : others[0] ?? -1);
  }

  index(at) {
    const axis = this.axes[at];
    if (at === this.token || (axis.along && axis.name !== "key")) {
      const index = Math.floor((this.page.cursor - axis.start) / axis.step);
      return index >= 0 && index < axis.labels.length ? index : null;
    }
    const label = SHARED.has(axis.name) ? this.page.at.get(axis.name) : undefined;
    const found = label === undefined ? -1 : axis.labels.indexOf(label);
    return found >= 0 ? found : this.own[at];
  }

  choose(at, index) {
    const axis = this.axes[at];
    if (at === this.token) {
      this.page.move(axis.start + index * axis.step);
      return;
    }
    this.own[at] = index;
    if (SHARED.has(axis.name)) this.page.at.set(axis.name, axis.labels[index]);
    this.page.update();
  }

  shift(at, by) {
    if (at < 0) return;
    const here = this.index(at);
    for (const other of [this.rows, this.columns]) {  // so that a cell is selected
      if (other >= 0 && !this.axes[other].along) this.own[other] ??= 0;
    }
    this.choose(at, here === null ? 0 : clamp(here + by, 0, this.sizes[at] - 1));
  }

  // The place of the drawn slice in the values; the choosers without a selection are at 0.
  base() {
    return this.choosers.reduce((sum, at) => sum + (this.index(at) ?? 0) * this.strides[at], 0);
  }

  offset(row, column) {
    return this.base() + (this.rows >= 0 ? row * this.strides[this.rows] : 0) +
      (this.columns >= 0 ? column * this.strides[this.columns] : 0);
  }

  count(at) {
    return at < 0 ? 1 : this.sizes[at];
  }

  // The selected row and column; null where something that is drawn is not selected.
  selected() {
    const row = this.rows < 0 ? 0 : this.index(this.rows);
    const column = this.columns < 0 ? 0 : this.index(this.columns);
    return row === null || column === null ? null : [row, column];
  }

  pick(row, column) {
    const both = [[this.rows, row], [this.columns, column]].filter(([at]) => at >= 0);
    for (const [at, index] of both.filter(([at]) => at !== this.token)) this.own[at] = index;
    for (const [at, index] of both.filter(([at]) => at !== this.token)) this.choose(at, index);
    for (const [at, index] of both.filter(([at]) => at === this.token)) this.choose(at, index);
  }

  place(at, index) {
    const axis = this.axes[at], parts = [];
    if (axis.name) parts.push(`${axis.name} `);
    const label = axis.labels[index];
    parts.push(isolated(axis.quoted ? `‹${label}›` : label, "label"));
    if (axis.along) {
      const first = axis.start + index * axis.step;
      parts.push(axis.step > 1 ? ` (${first}–${first + axis.step - 1})` : ` (${first})`);
    }
    return parts;
  }

  // All that is known of a cell, the value first.
  facts(row, column) {
    const offset = this.offset(row, column), unit = this.record.unit;
    const value = element("b", "value", exact(this.values[offset]));
    const parts = [value, unit && !Number.isNaN(this.values[offset]) ? ` ${unit}` : ""];
    for (const at of this.axes.keys()) {
      const index = at === this.rows ? row : at === this.columns ? column : this.index(at) ?? 0;
      parts.push(" · ", ...this.place(at, index));
    }
    const { words, beside, table, marked } = this.record;
    if (words) parts.push(" · ", isolated(`‹${words.list[words.places[offset]]}›`, "label"));
    if (marked && marked.includes(offset)) parts.push(" · marked *");
    if (beside && beside[offset]) parts.push(" · ", isolated(beside[offset]));
    for (const { name, numbers } of this.details) {
      const told = numbers[offset];
      if (Number.isNaN(told)) continue;
      parts.push(` · ${name} ${Number.isInteger(told) ? told : Number(told.toPrecision(6))}`);
    }
    if (table && table.more[row]) parts.push(" · ", isolated(table.more[row]));
    return parts;
  }

  tell() {
    const at = this.hovered ?? this.selected();
    const parts = at ? this.facts(...at) : ["hover, or use the keys, for the exact values"];
    this.readout.replaceChildren(...parts);
    this.readout.classList.toggle("hint", !at);
  }

  hover(at) {
    const same = at && this.hovered && at[0] === this.hovered[0] && at[1] === this.hovered[1];
    if (same || (!at && !this.hovered)) return;
    this.hovered = at;
    this.tell();
  }

  // The values at the cursor's token, the largest first.
  tellCursor() {
    if (this.token < 0) return;
    const here = this.index(this.token), parts = [];
    if (here === null) {
      this.cursorLine.replaceChildren("the token at the cursor is not in this figure");
      return;
    }
    parts.push("at ", ...this.place(this.token, here).slice(1), ": ");
    const others = [this.rows, this.columns].filter((at) => at >= 0 && at !== this.token);
    const other = others.find((at) => at >= 0) ?? -1;
    const inside = this.token === this.rows || this.token === this.columns;
    if (!inside || other < 0) {
      const shown = inside ? this.offset(here, here) : NaN;
      parts.push(inside ? `${exact(this.values[shown])} ${this.record.unit}`
        : "what is drawn above");
    } else {
      const at = (index) => this.offset(...(this.token === this.rows ? [here, index]
        : [index, here]));
      const found = Array.from({ length: this.sizes[other] }, (_, index) => index)
        .filter((index) => !Number.isNaN(this.values[at(index)]))
        .sort((a, b) => Math.abs(this.values[at(b)]) - Math.abs(this.values[at(a)]) || a - b);
      const axis = this.axes[other], { words } = this.record;
      for (const [rank, index] of found.slice(0, LISTED).entries()) {
        if (rank) parts.push(" · ");
        const label = axis.labels[index];
        const name = axis.quoted ? `‹${label}›` : `${axis.name} ${label}`;
        parts.push(isolated(name, "label"), ` ${brief(this.values[at(index)])}`);
        const word = words ? words.list[words.places[at(index)]] : "";
        if (word) parts.push(" ", isolated(`‹${word}›`, "word"));
      }
      if (found.length > LISTED) parts.push(` · and ${found.length - LISTED} more`);
      if (!found.length) parts.push("no value");
    }
    this.cursorLine.replaceChildren(...parts);
  }

  build(number) {
    const { record, page } = this;
    const section = element("section", "figure");
    section.append(...heading(record, number));
    this.area = element("div", "drawing");
    this.area.tabIndex = 0;
    this.area.setAttribute("role", "application");
    this.area.setAttribute("aria-roledescription", "figure");
    this.area.setAttribute("aria-label", `${record.title}. ${HELP}`);
    this.readout = element("p", "readout");
    this.readout.setAttribute("aria-live", "polite");
    this.cursorLine = element("p", "at-cursor");
    this.tools = element("div", "choosers");
    if (this.choosers.length) section.append(this.tools);
    section.append(this.readout, this.area);
    this.buildChoosers();
    this.painter = new PAINTERS[record.draw](this);
    if (this.token >= 0) section.append(this.cursorLine);
    const legend = this.painter.legend?.();
    if (legend) section.append(legend);
    const remarks = (record.remarks ?? []).join(" · ");
    for (const note of [remarks, ...record.notes].filter(Boolean)) {
      section.append(element("p", "note", note));
    }
    this.area.addEventListener("pointerleave", () => this.hover(null));
    section.addEventListener("focusin", () => { page.active = this; });
    return section;
  }

  buildChoosers() {
    this.selects = new Map();
    for (const at of this.choosers) {
      const axis = this.axes[at], label = element("label", "", `${axis.name} `);
      const select = element("select");
      for (const [index, text] of axis.labels.entries()) {
        const option = element("option", "", axis.along ? `${axis.start + index} ${text}` : text);
        option.value = String(index);
        select.append(option);
      }
      select.addEventListener("change", () => this.choose(at, Number(select.value)));
      this.selects.set(at, select);
      label.append(select);
      this.tools.append(label);
    }
  }

  slice() {
    return this.choosers.map((at) => this.index(at) ?? 0).join();
  }

  layout(width) {
    this.width = width;
    this.drawnSlice = this.slice();
    this.area.dataset.cells = String(this.painter.draw(width));
    this.update();
  }

  update() {
    if (this.width && this.drawnSlice !== this.slice()) {
      this.layout(this.width);
      return;
    }
    for (const [at, select] of this.selects) select.value = String(this.index(at) ?? 0);
    this.painter.mark(this.selected());
    this.tell();
    this.tellCursor();
  }
}

function heading(record, number) {
  const head = element("header"), { verdict } = record;
  const title = element("h2", "", record.title);
  title.id = `figure-${number}`;
  const status = element("span", `verdict ${verdict.status}`, verdict.status);
  head.append(title, status);
  const reason = verdict.reason || verdict.within;
  if (!reason || record.draw === "message") return [head];
  return [head, element("p", "reason", reason)];
}

// A canvas in the pixels of the screen, and its context in those of the page.
function sized(canvas, width, height) {
  const wanted = window.devicePixelRatio || 1;
  const ratio = Math.min(wanted, LARGEST_CANVAS / Math.max(width, height, 1));
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.textBaseline = "middle";
  return context;
}

function fitted(context, text, room) {
  if (context.measureText(text).width <= room) return text;
  const signs = [...text];
  let low = 0, high = signs.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    const fits = context.measureText(`${signs.slice(0, middle).join("")}…`).width <= room;
    if (fits) low = middle; else high = middle - 1;
  }
  return low ? `${signs.slice(0, low).join("")}…` : signs.length === 1 ? "" : "…";
}

function legendOf(page, scale, unit, more) {
  const line = element("p", "legend"), canvas = element("canvas");
  const ramp = page.ramps.all[page.ramps.of(scale)], context = sized(canvas, 120, 12);
  for (const [at, [background]] of ramp.entries()) {
    context.fillStyle = background;
    context.fillRect(at * 120 / ramp.length, 0, 120 / ramp.length + 1, 12);
  }
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "colours from the lowest value to the highest");
  line.append(unit ? `${unit} ` : "", `${brief(scale.low)} `, canvas, ` ${brief(scale.high)}`);
  const said = [scale.kind === "log" ? "logarithmic" : "", ...more].filter(Boolean);
  if (said.length) line.append(` · ${said.join(" · ")}`);
  return line;
}

class Heatmap {
  constructor(view) {
    this.view = view;
    this.flow = element("div", "grid");
    this.gutter = element("div", "gutter");
    this.cells = element("div", "cells");
    this.labels = element("canvas");
    this.canvas = element("canvas");
    this.marks = ["row", "column", "cell"].map((name) => element("div", `mark ${name}`));
    this.side = element("div", "mark row");
    this.gutter.append(this.labels, this.side);
    this.cells.append(this.canvas, ...this.marks);
    this.flow.append(this.gutter, this.cells);
    view.area.append(this.flow);
    const at = (event) => this.hit(event.offsetX, event.offsetY);
    this.canvas.addEventListener("pointermove", (event) => view.hover(at(event)));
    this.canvas.addEventListener("click", (event) => {
      const hit = at(event);
      if (hit) view.pick(...hit);
    });
    this.buildTiles();
  }

  // The labels of a drawn axis, with what the data adds to those of the last two axes.
  names(at) {
    const { record, axes } = this.view;
    if (at < 0) return [""];
    const own = at === axes.length - 1 ? record.columns : record.rows;
    return own ?? axes[at].labels;
  }

  // Bitmap of a slice with one pixel for each value, and the number of values that are there.
  bitmap(base) {
    const { view } = this, { scale } = view.record, { ramps } = view.page;
    const [height, width] = [view.count(view.rows), view.count(view.columns)];
    const [down, across] = [view.rows, view.columns].map((at) => (at < 0 ? 0 : view.strides[at]));
    const canvas = element("canvas"), colors = ramps.bytes[ramps.of(scale)];
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d"), image = context.createImageData(width, height);
    let count = 0;
    for (let row = 0, pixel = 0; row < height; row++) {
      for (let column = 0; column < width; column++, pixel += 4) {
        const value = view.values[base + row * down + column * across];
        const step = stepOf(scale, value, colors.length);
        if (step < 0) continue;
        const [red, green, blue] = colors[step];
        image.data.set([red, green, blue, 255], pixel);
        count++;
      }
    }
    context.putImageData(image, 0, 0);
    return { canvas, count };
  }

  draw(width) {
    const { view } = this, { page, record } = view, { look } = page.colors, px = page.px;
    const [rowNames, columnNames] = [this.names(view.rows), this.names(view.columns)];
    const [R, C] = [rowNames.length, columnNames.length];
    const font = `${px(12)}px ${MONO}`;
    const measure = this.canvas.getContext("2d");
    measure.font = font;
    const widest = (names) => Math.max(0, ...names.map((name) => measure.measureText(name).width));
    const gutter = Math.ceil(Math.min(widest(rowNames), px(WIDEST_LABEL), width * 0.3)) + 8;
    const room = Math.max(width - gutter, 40), tallest = clamp(window.innerHeight * 0.75, 320, 720);
    const labelWidth = widest(columnNames);
    let cw, rh;
    const words = record.words && C * px(62) <= LARGEST_CANVAS;
    if (words) {
      cw = clamp(Math.floor(room / C), px(62), px(110));
      rh = px(20);
    } else {
      const square = view.columns >= 0 && view.rows >= 0 &&
        view.axes[view.rows].along && view.axes[view.columns].along;
      const most = clamp(labelWidth + 12, px(46), px(square ? 72 : 110));
      cw = clamp(Math.floor(room / C), 2, most);
      rh = clamp(Math.floor(tallest / R), 2, px(22));
      if (square && cw < px(36)) cw = rh = Math.min(cw, rh);
    }
    const wordy = cw >= px(36) && rh >= px(14);
    if (wordy) rh = Math.max(rh, px(20));
    const level = labelWidth + 6 <= cw || (words && cw >= px(60));
    const head = level ? px(18) : Math.ceil(Math.min(labelWidth, px(TALLEST_LABEL))) + 8;
    Object.assign(this, { cw, rh, head, R, C, gutterWidth: gutter });
    this.cells.dataset.layout = [cw, rh, head].join(" ");
    const made = this.bitmap(view.base());
    const context = sized(this.canvas, C * cw, head + R * rh);
    context.imageSmoothingEnabled = false;
    context.drawImage(made.canvas, 0, head, C * cw, R * rh);
    if (cw >= 8 && rh >= 8) {
      context.fillStyle = look.background;
      for (let column = 1; column <= C; column++) context.fillRect(column * cw - 1, head, 1, R * rh);
      for (let row = 1; row <= R; row++) context.fillRect(0, head + row * rh - 1, C * cw, 1);
    }
    context.font = font;
    context.fillStyle = look.dim;
    const each = level ? 1 : Math.ceil(px(12) / cw);
    for (let column = 0; column < C; column += each) {
      context.save();
      if (level) {
        context.textAlign = "center";
        context.translate(column * cw + cw / 2, head / 2);
        context.fillText(fitted(context, columnNames[column], cw - 4), 0, 0);
      } else {
        context.translate(column * cw + (each > 1 ? px(6) : cw / 2), head - 4);
        context.rotate(-Math.PI / 2);
        context.fillText(fitted(context, columnNames[column], head - 8), 0, 0);
      }
      context.restore();
    }
    this.texts(context, wordy);
    const side = sized(this.labels, gutter, head + R * rh);
    side.font = font;
    side.textAlign = "right";
    side.fillStyle = look.dim;
    const every = Math.ceil(px(12) / rh);
    for (let row = 0; row < R; row += every) {
      const y = head + row * rh + Math.min(rh, px(12)) / 2 + Math.max(0, rh - px(12)) / 2;
      side.fillText(fitted(side, rowNames[row], gutter - 8), gutter - 6, y);
    }
    this.drawTiles();
    return made.count;
  }

  texts(context, wordy) {
    const { view, cw, rh, head, R, C } = this, { record, page } = view, { ramps } = page;
    const { scale, words } = record, marked = new Set(record.marked ?? []);
    const dashes = ramps.marks && scale.kind === "signed" && cw >= 5 && rh >= 5;
    if (!wordy && !dashes && !(marked.size && cw >= 8)) return;
    context.textAlign = "center";
    for (let row = 0; row < R; row++) {
      for (let column = 0; column < C; column++) {
        const offset = view.offset(row, column), value = view.values[offset];
        const pair = ramps.pair(scale, value);
        const word = words ? words.list[words.places[offset]] : null;
        const [x, y] = [column * cw + (cw - 1) / 2, head + row * rh + (rh - 1) / 2];
        context.fillStyle = pair ? pair[1] : page.colors.look.dim;
        if (wordy) {
          const star = marked.has(offset) ? "*" : "";
          const near = Math.abs(value) < scale.high / 2000 && value && scale.kind !== "log";
          const number = (near ? "≈0" : brief(value)) + star;
          context.fillText(fitted(context, word ?? number, cw - 6), x, y);
        } else if (marked.has(offset)) {
          context.fillText("*", x, y);
        } else if (dashes && value < 0) {
          context.fillRect(column * cw + cw / 4, y, cw / 2, 1);
        }
      }
    }
  }

  // Where the last axis that is not drawn has few indices, a small map of each to choose from.
  buildTiles() {
    const { view } = this, at = view.choosers.at(-1);
    this.tiles = [];
    if (at === undefined || view.columns < 0 || view.rows < 0) return;
    if (view.sizes[at] < 2 || view.sizes[at] > MOST_TILES) return;
    const box = element("div", "tiles"), axis = view.axes[at];
    for (const [index, label] of axis.labels.entries()) {
      const button = element("button", "tile"), canvas = element("canvas");
      button.type = "button";
      button.setAttribute("aria-label", `${axis.name} ${label}`);
      button.append(canvas, element("span", "", label));
      button.addEventListener("click", () => view.choose(at, index));
      this.tiles.push({ button, canvas, index });
      box.append(button);
    }
    view.tools.append(box);
  }

  drawTiles() {
    const { view } = this, at = view.choosers.at(-1);
    if (!this.tiles.length) return;
    const here = view.index(at) ?? 0, rest = view.base() - here * view.strides[at];
    if (this.tilesOf === rest) return;
    this.tilesOf = rest;
    for (const { canvas, index } of this.tiles) {
      const { canvas: map } = this.bitmap(rest + index * view.strides[at]);
      const size = view.page.px(56), ratio = map.width / map.height;
      const [width, height] = ratio > 1 ? [size, Math.max(8, size / ratio)]
        : [Math.max(8, size * ratio), size];
      const context = sized(canvas, Math.round(width), Math.round(height));
      context.imageSmoothingEnabled = false;
      context.drawImage(map, 0, 0, Math.round(width), Math.round(height));
    }
  }

  hit(x, y) {
    const column = Math.floor(x / this.cw), row = Math.floor((y - this.head) / this.rh);
    const inside = row >= 0 && row < this.R && column >= 0 && column < this.C && y >= this.head;
    return inside ? [row, column] : null;
  }

  mark() {
    const { view, cw, rh, head, R, C } = this;
    const index = (at) => (at < 0 ? null : view.index(at));
    const [row, column] = [index(view.rows), index(view.columns)];
    const cursorKey = view.columns >= 0 && view.axes[view.columns].name === "key" &&
      view.columns !== view.token ? this.key() : null;
    const [rowMark, columnMark, cellMark] = this.marks;
    const put = (mark, shown, left, top, width, height) => {
      mark.hidden = !shown;
      const sides = { left, top, width, height };
      for (const [side, value] of Object.entries(sides)) mark.style[side] = `${value}px`;
    };
    const across = cursorKey ?? column;
    put(rowMark, row !== null, 0, head + row * rh, C * cw, rh);
    put(this.side, row !== null, 0, head + row * rh, this.gutterWidth, rh);
    put(columnMark, across !== null, across * cw, 0, cw, head + R * rh);
    columnMark.classList.toggle("faint", cursorKey !== null);
    const cell = row !== null && column !== null;
    put(cellMark, cell, column * cw, head + row * rh, cw, rh);
    for (const { button, index: tile } of this.tiles) {
      const pressed = tile === (view.index(view.choosers.at(-1)) ?? 0);
      button.setAttribute("aria-pressed", String(pressed));
    }
    if (across !== null) this.reveal(across * cw, cw);
  }

  // The key that is the cursor's token, beside the query that is the cursor.
  key() {
    const axis = this.view.axes[this.view.columns];
    const index = Math.floor((this.view.page.cursor - axis.start) / axis.step);
    return index >= 0 && index < axis.labels.length ? index : null;
  }

  reveal(left, width) {
    const { flow } = this, room = flow.clientWidth - this.gutterWidth;
    if (left < flow.scrollLeft) flow.scrollLeft = left;
    if (left + width > flow.scrollLeft + room) flow.scrollLeft = left + width - room;
  }

  legend() {
    const { record, axes, rows, columns } = this.view, name = (at) => (at < 0 ? "" : axes[at].name);
    const said = [name(rows) && `down: ${name(rows)}`, name(columns) && `across: ${name(columns)}`];
    return legendOf(this.view.page, record.scale, record.unit, [...said, record.legend]);
  }
}

class Bars {
  constructor(view) {
    this.view = view;
    this.list = element("div", "bars");
    view.area.append(this.list);
    const row = (event) => event.target.closest("[data-row]");
    this.list.addEventListener("pointermove", (event) => {
      const at = row(event);
      view.hover(at ? [Number(at.dataset.row), 0] : null);
    });
    this.list.addEventListener("click", (event) => {
      const at = row(event);
      if (at) view.pick(Number(at.dataset.row), 0);
    });
  }

  draw() {
    const { view } = this, { record } = view, { look } = view.page.colors;
    const axis = view.axes[view.rows], base = view.base();
    const length = (value) => (Number.isNaN(value) ? 0 : clamp(Math.abs(value) / record.top, 0, 1));
    const values = Array.from(axis.labels.keys(), (row) => view.values[base + row]);
    const low = Math.max(0, ...values.filter((value) => value < 0).map(length));
    const high = Math.max(low ? 0 : 1, ...values.filter((value) => value > 0).map(length));
    const zero = low / (low + high || 1), unit = 1 / (low + high || 1);
    let count = 0;
    const rows = values.map((value, row) => {
      const line = element("div", "bar");
      line.dataset.row = String(row);
      const name = isolated(axis.labels[row], "name");
      const track = element("span", "track"), fill = element("span", "fill");
      const share = length(value) * unit, negative = value < 0;
      if (!Number.isNaN(value)) {
        count++;
        fill.style.left = `${100 * (negative ? zero - share : zero)}%`;
        fill.style.width = `${100 * share}%`;
        fill.style.background = low || record.scale.kind === "signed"
          ? negative ? look.minus : look.plus : look.bar;
        track.append(fill);
      }
      const cut = record.kept.length && !record.kept[row];
      if (cut) line.classList.add("cut");
      if (record.chosen === row) line.classList.add("chosen");
      const number = element("span", "number", record.numbers[base + row]);
      line.append(isolated(axis.along ? String(axis.start + row * axis.step) : "", "position"),
        name, number, track);
      line.append(isolated(record.beside[base + row] ?? (cut ? "× cut by the sampler" : ""),
        "beside"));
      return line;
    });
    const longest = Math.max(...axis.labels.map((label) => [...label].length));
    this.list.style.setProperty("--name", `${clamp(longest + 2, 6, 26)}ch`);
    this.list.classList.toggle("along", axis.along);
    this.list.classList.toggle("told", rows.some((line) => line.lastChild.textContent));
    this.list.replaceChildren(...rows);
    return count;
  }

  mark() {
    const here = this.view.index(this.view.rows);
    for (const [row, line] of [...this.list.children].entries()) {
      line.classList.toggle("here", row === here);
    }
  }

  legend() {
    const { record, axes, rows } = this.view, unit = record.unit;
    const said = [axes[rows].name, unit, record.chosen === null ? "" : "▸ the target or chosen row"];
    return element("p", "legend", said.filter(Boolean).join(" · "));
  }
}

class Strip {
  constructor(view) {
    this.view = view;
    this.flow = element("div", "strip");
    view.area.append(this.flow);
    this.flow.addEventListener("pointermove", (event) => {
      const at = event.target.closest("[data-row]");
      view.hover(at ? [Number(at.dataset.row), 0] : null);
    });
    this.flow.addEventListener("click", (event) => {
      const at = event.target.closest("[data-row]");
      if (at) view.pick(Number(at.dataset.row), 0);
    });
  }

  draw() {
    const { view } = this, { record } = view, base = view.base();
    let count = 0;
    const spans = view.axes[view.rows].labels.map((label, row) => {
      const value = view.values[base + row];
      const pair = view.page.ramps.pair(record.scale, value);
      const span = isolated(label, "token");
      span.dataset.row = String(row);
      if (record.special[row]) span.classList.add("special");
      if (pair) {
        [span.style.background, span.style.color] = pair;
        count++;
      }
      return span;
    });
    this.flow.replaceChildren(...spans);
    return count;
  }

  mark() {
    const here = this.view.index(this.view.rows);
    for (const [row, span] of [...this.flow.children].entries()) {
      span.classList.toggle("here", row === here);
    }
  }

  legend() {
    const { record } = this.view;
    return legendOf(this.view.page, record.scale, record.unit, ["no colour: no value"]);
  }
}

function ticksOf(low, high) {
  const span = high - low || 1, raw = span / 4, power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((times) => times * power).find((one) => one >= raw);
  const found = [];
  for (let at = Math.ceil(low / step); at * step <= high + step * 1e-9; at++) found.push(at * step);
  return found;
}

class Lines {
  constructor(view) {
    this.view = view;
    this.svg = drawn("svg", { class: "lines", role: "img" });
    this.names = element("p", "names");
    view.area.append(this.svg, this.names);
    const at = (event) => this.hit(event);
    this.svg.addEventListener("pointermove", (event) => view.hover(at(event)));
    this.svg.addEventListener("click", (event) => {
      const hit = at(event);
      if (hit) view.pick(...hit);
    });
  }

  x(column) {
    const { left, right, C } = this;
    return C > 1 ? left + (column / (C - 1)) * (right - left) : (left + right) / 2;
  }

  y(value) {
    const { top, bottom, low, high } = this;
    return bottom - ((clamp(value, low, high) - low) / (high - low)) * (bottom - top);
  }

  draw(width) {
    const { view } = this, { record, page } = view, { look, series, marks } = page.colors;
    const px = page.px, height = px(280), names = view.axes[view.columns].labels;
    let { low, high } = record;
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const ticks = ticksOf(low, high), room = Math.max(...ticks.map((tick) => brief(tick).length));
    Object.assign(this, { low, high, C: names.length, R: view.count(view.rows) });
    Object.assign(this, { left: px(8) * room + 10, right: width - px(12), top: px(10) });
    this.bottom = height - px(40);
    const parts = [];
    const label = (x, y, text, anchor) => {
      const made = drawn("text", { x, y, "text-anchor": anchor, fill: look.dim, "font-size": px(12) });
      made.textContent = text;
      parts.push(made);
    };
    const rule = (x1, y1, x2, y2) => {
      parts.push(drawn("line", { x1, y1, x2, y2, stroke: look.border, "stroke-width": 1 }));
    };
    for (const tick of ticks) {
      rule(this.left, this.y(tick), this.right, this.y(tick));
      label(this.left - 6, this.y(tick) + px(4), brief(tick), "end");
    }
    const longest = Math.max(...names.map((name) => [...name].length));
    const fit = Math.max(1, Math.floor((this.right - this.left) / (px(8) * Math.min(longest, 14) + 10)));
    const each = Math.ceil(names.length / fit);
    for (let column = 0; column < names.length; column += each) {
      const signs = [...names[column]];
      const text = signs.length > 14 ? `${signs.slice(0, 13).join("")}…` : names[column];
      const end = column === names.length - 1 && column > 0 ? "end" : column ? "middle" : "start";
      label(this.x(column), this.bottom + px(16), text, end);
    }
    label((this.left + this.right) / 2, height - px(6), view.axes[view.columns].name, "middle");
    this.rule = drawn("line", { stroke: look.accent, "stroke-width": 1, y1: this.top, y2: this.bottom });
    parts.push(this.rule);
    let count = 0;
    this.curves = [];
    for (let row = 0; row < this.R; row++) {
      const color = series[row % series.length], group = drawn("g", { fill: "none", stroke: color });
      let points = [];
      const flush = () => {
        const line = { points: points.join(" "), "stroke-width": 1.6 };
        if (marks && row) line["stroke-dasharray"] = `${2 + row * 2} 3`;
        if (points.length > 1) group.append(drawn("polyline", line));
        points = [];
      };
      for (let column = 0; column < this.C; column++) {
        const value = view.values[view.offset(row, column)];
        if (Number.isNaN(value)) {
          flush();
          continue;
        }
        count++;
        const [cx, cy] = [this.x(column), this.y(value)];
        points.push(`${cx},${cy}`);
        group.append(drawn("circle", { cx, cy, r: 2, fill: color, stroke: "none" }));
      }
      flush();
      this.curves.push(group);
      parts.push(group);
    }
    this.dot = drawn("circle", { r: 5, fill: "none", stroke: look.accent, "stroke-width": 2 });
    parts.push(this.dot);
    for (const [name, value] of Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` })) {
      this.svg.setAttribute(name, value);
    }
    this.svg.setAttribute("aria-label", record.title);
    this.svg.replaceChildren(...parts);
    this.legendNames(series);
    return count;
  }

  legendNames(series) {
    const { view } = this;
    if (view.rows < 0) return;
    const names = view.axes[view.rows].labels.map((label, row) => {
      const name = element("button", "name");
      name.type = "button";
      name.tabIndex = -1;
      const swatch = element("span", "swatch");
      swatch.style.background = series[row % series.length];
      name.append(swatch, isolated(label));
      name.addEventListener("click", () => view.choose(view.rows, row));
      return name;
    });
    this.names.replaceChildren(...names);
  }

  // The nearest point of the nearest place on the x axis.
  hit(event) {
    const box = this.svg.getBoundingClientRect(), { view } = this;
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    if (x < this.left - 20 || y > this.bottom + 20) return null;
    const share = (x - this.left) / Math.max(this.right - this.left, 1);
    const column = clamp(Math.round(share * (this.C - 1)), 0, this.C - 1);
    let best = 0, least = Infinity;
    for (let row = 0; row < this.R; row++) {
      const value = view.values[view.offset(row, column)];
      const far = Number.isNaN(value) ? Infinity : Math.abs(this.y(value) - y);
      if (far < least) [best, least] = [row, far];
    }
    return [best, column];
  }

  mark(selected) {
    const { view } = this, column = view.index(view.columns);
    const row = view.rows < 0 ? 0 : view.index(view.rows);
    this.rule.setAttribute("visibility", column === null ? "hidden" : "visible");
    if (column !== null) {
      this.rule.setAttribute("x1", this.x(column));
      this.rule.setAttribute("x2", this.x(column));
    }
    const value = selected ? view.values[view.offset(...selected)] : NaN;
    this.dot.setAttribute("visibility", Number.isNaN(value) ? "hidden" : "visible");
    if (!Number.isNaN(value)) {
      this.dot.setAttribute("cx", this.x(selected[1]));
      this.dot.setAttribute("cy", this.y(value));
    }
    for (const [at, curve] of this.curves.entries()) {
      curve.setAttribute("opacity", row === null || this.R === 1 || at === row ? 1 : 0.55);
    }
  }

  legend() {
    const { record } = this.view;
    return record.unit ? element("p", "legend", record.unit) : null;
  }
}

class Table {
  constructor(view) {
    this.view = view;
    this.scroll = element("div", "scroll");
    this.table = element("table");
    this.scroll.append(this.table);
    view.area.append(this.scroll);
    const place = (event) => {
      const row = event.target.closest("[data-row]");
      if (!row) return null;
      const cell = event.target.closest("[data-column]");
      const column = view.columns < 0 ? 0
        : cell ? Number(cell.dataset.column) : view.index(view.columns) ?? 0;
      return [Number(row.dataset.row), column];
    };
    this.table.addEventListener("pointermove", (event) => view.hover(place(event)));
    this.table.addEventListener("click", (event) => {
      const at = place(event);
      if (at) view.pick(...at);
    });
  }

  draw() {
    const { record } = this.view;
    return record.examples ? this.examples(record) : this.plain(record.table);
  }

  plain(table) {
    const head = element("tr"), body = element("tbody");
    for (const [at, name] of table.heads.entries()) {
      const cell = element("th", table.numeric[at] ? "numeric" : "", name);
      cell.scope = "col";
      head.append(cell);
    }
    let count = 0;
    this.lines = [];
    for (let row = 0; row < (table.columns[0] ?? []).length; row++) {
      const line = element("tr");
      line.dataset.row = String(row);
      for (const [at, texts] of table.columns.entries()) {
        const cell = element("td", table.numeric[at] ? "numeric" : "");
        cell.append(isolated(texts[row]));
        const value = table.values[at];
        if (value !== null) {
          cell.dataset.column = String(value);
          if (!Number.isNaN(this.view.values[this.view.offset(row, value)])) count++;
        }
        line.append(cell);
      }
      this.lines.push(line);
      body.append(line);
    }
    const top = element("thead");
    top.append(head);
    this.table.replaceChildren(top, body);
    return count;
  }

  examples(record) {
    const { view } = this;
    let count = 0;
    this.lines = record.examples.map((example, row) => {
      const line = element("tr"), text = element("td", "example");
      line.dataset.row = String(row);
      const value = view.values[row];
      if (!Number.isNaN(value)) count++;
      for (const [at, token] of example.tokens.entries()) {
        const span = isolated(token, at === example.peak ? "token peak" : "token");
        const number = example.activations[at];
        const pair = number ? view.page.ramps.pair(record.scale, number) : null;
        if (pair) [span.style.background, span.style.color] = pair;
        text.append(span);
      }
      line.append(element("td", "", example.part), element("td", "numeric", brief(value)), text);
      return line;
    });
    const body = element("tbody");
    body.append(...this.lines);
    this.table.replaceChildren(body);
    return count;
  }

  mark() {
    const here = this.view.index(this.view.rows);
    for (const [row, line] of this.lines.entries()) line.classList.toggle("here", row === here);
  }

  legend() {
    const { record, page } = this.view;
    return record.examples ? legendOf(page, record.scale, record.unit, []) : null;
  }
}

const PAINTERS = { heatmap: Heatmap, bars: Bars, tokens: Strip, lines: Lines, table: Table };
const MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace";

// The picture that Python drew, which a page holds for browsers that run no script.
function picture() {
  const held = document.querySelector("noscript")?.textContent ?? "";
  const parsed = new DOMParser().parseFromString(held.replace(/<\/?figure>/g, ""), "image/svg+xml");
  const box = element("figure", "picture");
  if (parsed.documentElement.localName === "svg") {
    box.append(document.importNode(parsed.documentElement, true));
  }
  return box;
}

class Page {
  constructor(root, data, options) {
    this.root = root;
    this.data = data;
    this.colors = data.colors;
    this.options = options;
    this.ramps = new Ramps(data.colors);
    this.px = (pixels) => pixels * data.scale;
    this.tokens = data.tokens;
    this.cursor = clamp(options.cursor ?? data.cursor, 0, Math.max(this.tokens.length - 1, 0));
    this.at = new Map();
    this.views = [];
    this.active = null;
  }

  async build() {
    const { root, data } = this;
    for (const [name, value] of Object.entries(this.colors.look)) {
      root.style.setProperty(`--${name}`, value);
    }
    root.style.setProperty("--size", `${15 * data.scale}px`);
    root.replaceChildren(element("p", "help", HELP));
    if (this.tokens.length) root.append(this.prompt());
    root.addEventListener("keydown", (event) => this.key(event));
    if (this.options.page) {
      document.addEventListener("keydown", (event) => {
        if (event.target === document.body) this.key(event);
      });
    }
    let pictured = false;
    for (const [number, record] of data.figures.entries()) {
      pictured = (await this.figure(record, number)) || pictured;
    }
    if (pictured && this.options.page) root.append(picture());
    this.width = root.clientWidth;
    const resized = new ResizeObserver(() => {
      if (root.clientWidth === this.width || !root.clientWidth) return;
      this.width = root.clientWidth;
      for (const view of this.views) view.layout(view.area.clientWidth);
    });
    resized.observe(root);
    root.dataset.ready = "true";
  }

  // Add one figure; return whether only its picture can show it.
  async figure(record, number) {
    if (record.draw === "message" || record.draw === "picture") {
      const section = element("section", "figure");
      const text = record.draw === "message" ? record.message
        : `too large to be drawn here (${record.message})` +
          (this.options.page ? ": see the picture below" : ": save it to a file");
      section.append(...heading(record, number), element("p", "message", text));
      this.root.append(section);
      return record.draw === "picture";
    }
    const values = await unpacked(record.values);
    const details = await Promise.all(record.details.map(async (one) => (
      { name: one.name, numbers: await unpacked(one) })));
    const view = new View(this, record, values, details);
    const section = view.build(number);
    section.setAttribute("aria-labelledby", `figure-${number}`);
    this.root.append(section);
    this.views.push(view);
    view.layout(view.area.clientWidth);
    return false;
  }

  prompt() {
    const box = element("div", "prompt");
    box.tabIndex = 0;
    box.setAttribute("role", "slider");
    box.setAttribute("aria-label", "token at the cursor");
    box.setAttribute("aria-valuemin", "0");
    box.setAttribute("aria-valuemax", String(this.tokens.length - 1));
    this.places = this.tokens.map((token, place) => {
      const span = isolated(token, "token");
      span.dataset.place = String(place);
      return span;
    });
    box.append(...this.places);
    box.addEventListener("click", (event) => {
      const span = event.target.closest("[data-place]");
      if (span) this.move(Number(span.dataset.place));
    });
    this.strip = box;
    return box;
  }

  move(place) {
    const cursor = clamp(place, 0, Math.max(this.tokens.length - 1, 0));
    if (cursor === this.cursor) {
      this.update();
      return;
    }
    this.cursor = cursor;
    this.update();
    this.options.onCursor?.(cursor);
  }

  update() {
    if (this.strip) {
      for (const [place, span] of this.places.entries()) {
        span.classList.toggle("here", place === this.cursor);
      }
      this.strip.setAttribute("aria-valuenow", String(this.cursor));
      this.strip.setAttribute("aria-valuetext", `${this.cursor}: ${this.tokens[this.cursor]}`);
      const span = this.places[this.cursor], box = this.strip;
      const top = span.offsetTop - box.offsetTop;
      if (top < box.scrollTop || top + span.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = top - box.clientHeight / 2;
      }
    }
    for (const view of this.views) view.update();
  }

  key(event) {
    const { target } = event, area = target.closest?.(".drawing, .prompt");
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (target.closest?.("select, input, textarea, summary")) return;
    const view = target.closest?.(".drawing") ? this.active : null;
    const chooser = view?.choosers.filter((at) => at !== view.token).at(-1) ?? -1;
    const last = this.tokens.length - 1;
    const acts = {
      ArrowLeft: () => this.move(this.cursor - 1),
      ArrowRight: () => this.move(this.cursor + 1),
      "[": () => view?.shift(chooser, -1),
      "]": () => view?.shift(chooser, 1),
    };
    if (area) Object.assign(acts, { Home: () => this.move(0), End: () => this.move(last) });
    if (view && view.second >= 0) {
      acts.ArrowUp = () => view.shift(view.second, -1);
      acts.ArrowDown = () => view.shift(view.second, 1);
    }
    if (view && view.across >= 0) {
      acts.ArrowLeft = () => view.shift(view.across, -1);
      acts.ArrowRight = () => view.shift(view.across, 1);
    }
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }
}

async function show(root, data, options) {
  const page = new Page(root, data, options);
  try {
    await page.build();
    page.update();
  } catch (error) {
    root.replaceChildren(element("p", "message", `this browser cannot draw it: ${error.message}`));
    if (options.page) root.append(picture());
    root.dataset.ready = "failed";
  }
  return page;
}
