// The explorer. It speaks to the model by TF Serving's REST API alone: v1/models/NAME, beside this page. The name is that
// of ?model=NAME, else the first of models.json, which lies beside this page, too.

import { dataUrl, download, drawFrame, droppedFiles, readImage, savedScale, spread, toPixels, toPng } from "./frames.js";
import { toGif } from "./gif.js";
import { fromHash, toHash } from "./link.js";
import { Model, ask, between, modelPath, placed } from "./model.js";

const SVG = "http://www.w3.org/2000/svg";
const PLANE = 500; // units of the drawing
const THUMB = 40;
const SAMPLED_FRAMES = 6;
const MAX_FRAMES = 32;
const SECONDS_PER_FRAME = 0.8;
const CRISP_BELOW = 49; // pixels; smaller frames are enlarged without smoothing
const STEPS_OF_PATH = 6; // of a saved animation, from one frame of the sequence to the next
const MAX_STEPS = 96; // of all of it

const by = (id) => document.getElementById(id);
const stillness = matchMedia("(prefers-reduced-motion: reduce)");

// Errors, one at a time for each thing that can go wrong

const errors = new Map();

function report(key, message) {
  errors.set(key, message);
  showErrors();
}

function settled(key) {
  if (errors.delete(key)) showErrors();
}

function showErrors() {
  by("errors").replaceChildren(
    ...[...errors].map(([key, message]) => {
      const box = element("div", { className: "error" });
      const close = element("button", { type: "button", textContent: "Dismiss" });
      close.addEventListener("click", () => settled(key));
      box.append(element("p", { textContent: message }), close);
      return box;
    }),
  );
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}

// Only the newest wins: while one request is under way, of those that come meanwhile the last is kept.
function newest(work) {
  let running = false;
  let next = null;
  return async (...arguments_) => {
    next = arguments_;
    if (running) return;
    running = true;
    while (next) {
      const now = next;
      next = null;
      await work(...now);
    }
    running = false;
  };
}

// The page

let model;
const slots = {}; // "A", "B" -> Slot
let who = "A";
let mix = 0; // 0: f of A, 1: f of B
let z = []; // [Z]
const current = () => slots[who].sequence;

// The f that is shown
function code() {
  const { A, B } = slots;
  if (isBlended()) return between(A.sequence.code, B.sequence.code, mix);
  return current().code;
}

const isBlended = () => mix > 0 && mix < 1;

class Slot {
  constructor(letter) {
    this.letter = letter;
    this.sequence = null; // {code, prior, zs, frames, pictures}
    this.attempt = 0;
    this.described = ""; // what the sequence is
    this.box = by(`slot-${letter}`);
    this.box.classList.add(`of-${letter}`);
    this.box.append(by("slot-template").content.cloneNode(true));
    this.box.querySelector("h3").textContent = `Sequence ${letter}`;
    this.status = this.box.querySelector(".status");
    for (const [kind, name] of [["files", "images"], ["folder", "a folder"]]) {
      const input = this.box.querySelector(`input.${kind}`);
      input.setAttribute("aria-label", `Upload ${name} as sequence ${letter}`);
      input.addEventListener("change", () => {
        this.upload([...input.files], kind === "folder");
        input.value = ""; // so that the same files can be chosen again
      });
    }
    const sample = this.box.querySelector(".sample");
    sample.title = "A sequence that the model makes up";
    sample.setAttribute("aria-label", `Sample sequence ${letter} from the model`);
    sample.addEventListener("click", () => this.sample());
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      this.box.addEventListener(kind, (event) => {
        event.preventDefault();
        this.box.classList.toggle("over", kind === "dragenter" || kind === "dragover");
        if (kind === "drop") this.drop(event.dataTransfer);
      });
    }
  }

  sample() {
    return this.become("sampling …", "drawn from the model", async () => {
      const sequence = await model.sample(SAMPLED_FRAMES);
      return { ...sequence, prior: await model.prior(sequence.code) };
    });
  }

  // Codes of a link: what the model shows for them, since a link holds no pictures
  restore({ code, zs }) {
    return this.become("decoding …", "decoded from the codes of a link", async () => {
      return { code, prior: await model.prior(code), zs, frames: await model.decode(code, zs) };
    });
  }

  // Example frames of the model, which were held out in training
  example(urls) {
    return this.become("encoding …", "never seen in training", async () => {
      const replies = await Promise.all(urls.map((url) => fetch(url)));
      if (!replies.every((reply) => reply.ok)) throw new Error("the example frames cannot be fetched.");
      const files = await Promise.all(replies.map((reply) => reply.blob()));
      return { ...(await this.encoded(files)), example: true };
    });
  }

  async drop(transfer) {
    try {
      const { files, folder } = await droppedFiles(transfer);
      await this.upload(files, folder);
    } catch (error) {
      report(this.letter, `Sequence ${this.letter}: what was dropped cannot be read (${error.message}).`);
    }
  }

  upload(files, folder = false) {
    let chosen = files;
    if (folder) {
      const images = files.filter((file) => file.type.startsWith("image/") && !file.name.startsWith("."));
      chosen = spread(images.sort(byName), MAX_FRAMES);
      if (!chosen.length) return report(this.letter, `Sequence ${this.letter}: there are no images in the folder.`);
      if (chosen.length < images.length) this.done = `uploaded, of ${images.length} in the folder`;
    }
    if (!chosen.length) return undefined;
    return this.become("encoding …", this.done ?? "uploaded", async () => {
      if (chosen.length > MAX_FRAMES) throw new Error(`At most ${MAX_FRAMES} images at once; these are ${chosen.length}.`);
      return this.encoded(chosen.sort(byName));
    });
  }

  async encoded(files) {
    const frames = await Promise.all(files.map((file) => readImage(file, model)));
    const { code, zs } = await model.encode(frames);
    return { code, prior: await model.prior(code), zs, frames };
  }

  // Takes on another sequence, unless something newer was asked for meanwhile.
  async become(busy, done, make) {
    const attempt = ++this.attempt;
    this.done = undefined;
    this.status.textContent = busy;
    this.box.setAttribute("aria-busy", "true");
    try {
      const sequence = await make();
      if (attempt !== this.attempt) return;
      sequence.pictures = sequence.frames.map(dataUrl);
      this.sequence = sequence;
      const count = sequence.frames.length;
      this.described = `${count} ${count === 1 ? "frame" : "frames"}, ${done}`;
      this.status.textContent = this.described;
      settled(this.letter);
      this.showStrip();
      choose(this.letter);
      showSwaps();
    } catch (error) {
      if (attempt !== this.attempt) return;
      this.status.textContent = this.described;
      report(this.letter, `Sequence ${this.letter}: ${error.message}`);
    }
    this.box.removeAttribute("aria-busy");
  }

  showStrip() {
    this.box.querySelector(".strip").replaceChildren(
      ...this.sequence.pictures.map((src, i) => {
        const button = element("button", { type: "button" });
        button.append(element("img", { src, alt: "" }));
        button.setAttribute("aria-label", `Frame ${i + 1} of sequence ${this.letter}`);
        button.addEventListener("click", () => {
          pause();
          choose(this.letter);
          moveTo(this.sequence.zs[i]);
        });
        return button;
      }),
    );
  }
}

const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

// Whose f it is, and with it the plane
function choose(letter) {
  if (!slots[letter].sequence) return showWho();
  show(letter, letter === "A" ? 0 : 1);
  moveTo(slots[letter].sequence.zs[0]);
}

function showWho() {
  by("mix").value = String(mix);
  document.querySelector(`input[name=who][value=${who}]`).checked = true;
}

function show(letter, part) {
  who = letter;
  mix = part;
  showWho();
  pause();
  drawPlane();
  drawSliders();
}

// An f between those of A and B; z stays, and the ellipses are those of this f
function blend(part) {
  if (!slots.A.sequence || !slots.B.sequence) return showWho();
  const kept = z;
  show(part < 0.5 ? "A" : "B", part);
  moveTo(kept);
  showPrior(code());
}

const showPrior = newest(async (static_) => {
  const [whose, part, sequence] = [who, mix, current()];
  try {
    const prior = await model.prior(static_);
    if (whose === who && part === mix && sequence === current()) drawEllipses(prior);
    settled("prior");
  } catch (error) {
    report("prior", error.message);
  }
});

function moveTo(position) {
  const { centre, half } = view;
  z = position.map((value, i) => Math.min(Math.max(value, centre[i] - half), centre[i] + half));
  const [x, y] = toPlane(z);
  for (const slider of by("sliders").querySelectorAll("input")) slider.value = String(z[slider.dataset.axis]);
  for (const part of by("plane").querySelectorAll(".z")) part.setAttribute("transform", `translate(${x} ${y})`);
  by("z").textContent = `(${z.map((value) => value.toFixed(2).replace("-", "−")).join(", ")})`;
  for (const letter of Object.keys(slots)) {
    const zs = slots[letter].sequence?.zs ?? [];
    slots[letter].box.querySelectorAll(".strip button").forEach((button, i) => {
      const here = letter === who && Math.hypot(...zs[i].map((value, axis) => value - z[axis])) < 1e-6;
      button.setAttribute("aria-current", String(here));
    });
  }
  showDecoded(code(), z);
}

// To a place under p(z | f) of the f that is shown
async function moveUnderPrior(place) {
  pause();
  let { prior } = current();
  if (isBlended()) prior = await model.prior(code());
  moveTo(place(prior));
}

const showDecoded = newest(async (static_, position) => {
  const start = performance.now();
  try {
    const [frame] = await model.decode(static_, [position]);
    drawFrame(by("frame"), frame);
    by("latency").textContent = `${Math.round(performance.now() - start)} ms`;
    settled("decode");
  } catch (error) {
    report("decode", error.message);
    pause();
  }
});

// The plane: of the first two numbers of z, or of the only one. The others have sliders.

let view = { centre: [0, 0], half: 1 }; // centre [Z]

const toPlane = ([x, y = view.centre[1] ?? 0]) => [
  (PLANE * (x - view.centre[0] + view.half)) / (2 * view.half),
  (PLANE * ((view.centre[1] ?? 0) + view.half - y)) / (2 * view.half), // upwards
];

function fromEvent(event) {
  const box = by("plane").getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = (event.clientY - box.top) / box.height;
  const [first, second] = [view.centre[0] + view.half * (2 * x - 1), view.centre[1] + view.half * (1 - 2 * y)];
  return [first, second, ...z.slice(2)].slice(0, model.dynamicDim);
}

function svg(tag, attributes, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

// 1, 2 or 5 times a power of ten, about a fifth of the range
function tickStep(range) {
  const power = 10 ** Math.floor(Math.log10(range / 5));
  return power * ([1, 2, 5].find((factor) => (factor * power * 5) >= range * 0.7) ?? 10);
}

function drawPlane() {
  const { prior, zs, pictures } = current();
  const reach = [...prior.stddev.map((stddev) => 2.3 * stddev)];
  for (const point of zs) point.forEach((value, i) => reach.push(1.15 * Math.abs(value - prior.mean[i])));
  view = { centre: prior.mean, half: Math.max(...reach) };
  const parts = [];
  const step = tickStep(2 * view.half);
  const decimals = Math.max(0, -Math.floor(Math.log10(step)));
  for (const axis of [0, 1].slice(0, model.dynamicDim)) {
    const last = view.centre[axis] + view.half;
    for (let n = Math.ceil((view.centre[axis] - view.half) / step); n * step <= last; n++) {
      const at = toPlane(axis ? [0, n * step] : [n * step, 0])[axis];
      const ends = axis ? { x1: 0, x2: PLANE, y1: at, y2: at } : { x1: at, x2: at, y1: 0, y2: PLANE };
      parts.push(svg("line", { ...ends, class: n === 0 ? "axis" : "grid" }));
      if (at < (axis ? 36 : 24) || at > PLANE - (axis ? 24 : 60)) continue; // where names of axes are
      const where = axis ? { x: 5, y: at - 4 } : { x: at + 4, y: PLANE - 6 };
      parts.push(svg("text", { ...where, class: "tick" }, (n * step).toFixed(decimals).replace("-", "−")));
    }
  }
  parts.push(svg("text", { x: PLANE - 20, y: PLANE - 6, class: "tick" }, "z₁"));
  if (model.dynamicDim > 1) parts.push(svg("text", { x: 5, y: 16, class: "tick" }, "z₂"));
  parts.push(svg("g", { id: "ellipses" }));
  const places = zs.map(toPlane);
  parts.push(svg("polyline", { points: places.map((place) => place.join()).join(" "), class: "path" }));
  parts.push(...places.map((place, i) => thumbnail(place, pictures[i], i)), ...places.map(dot));
  parts.push(svg("g", { class: "z" }, svg("circle", { r: 13, class: "handle-back" }), svg("circle", { r: 11, class: "handle" })));
  const plane = by("plane");
  plane.setAttribute("viewBox", `0 0 ${PLANE} ${PLANE}`);
  plane.setAttribute("class", `of-${who}`);
  plane.replaceChildren(...parts);
  drawEllipses(prior);
}

// One and two standard deviations of p(z | f)
function drawEllipses(prior) {
  const [cx, cy] = toPlane(prior.mean);
  by("ellipses").replaceChildren(
    ...[2, 1].map((times) => {
      const [rx, ry = 4] = prior.stddev.map((stddev) => (times * stddev * PLANE) / (2 * view.half));
      return svg("ellipse", { cx, cy, rx, ry, class: "ellipse" });
    }),
  );
}

function drawSliders() {
  const { centre, half } = view;
  by("sliders").hidden = model.dynamicDim < 3;
  by("sliders").replaceChildren(
    ...centre.slice(2).map((middle, i) => {
      const label = element("label", { textContent: `z${subscript(i + 3)} ` });
      const slider = element("input", { type: "range", min: String(middle - half), max: String(middle + half), step: "any" });
      slider.dataset.axis = String(i + 2);
      slider.addEventListener("input", () => {
        pause();
        moveTo(z.map((value, axis) => (axis === i + 2 ? Number(slider.value) : value)));
      });
      label.append(slider);
      return label;
    }),
  );
}

const subscript = (number) => [...String(number)].map((digit) => String.fromCharCode(0x2080 + Number(digit))).join("");

// A frame, beside its z and inside of the plane
function thumbnail([x, y], href, i) {
  const height = (THUMB * model.height) / model.width;
  const left = x + 8 + THUMB > PLANE ? x - 8 - THUMB : x + 8;
  const top = Math.max(2, Math.min(y - height - 4, PLANE - height - 2));
  const size = { x: left, y: top, width: THUMB, height };
  return svg("g", ofFrame(i), svg("rect", { ...size, class: "thumb-back" }), svg("image", { ...size, href }));
}

const dot = ([cx, cy], i) => svg("g", ofFrame(i), svg("circle", { cx, cy, r: 5, class: "dot" }));
const ofFrame = (i) => ({ class: "point", "data-frame": i });

function listenToPlane() {
  const plane = by("plane");
  let dragging = null; // {id, x, y, moved}
  plane.addEventListener("pointerdown", (event) => {
    if (event.button || dragging || !current()) return;
    pause();
    const frame = event.target.closest(".point")?.dataset.frame;
    dragging = { id: event.pointerId, x: event.clientX, y: event.clientY, moved: frame === undefined };
    plane.setPointerCapture(dragging.id);
    moveTo(frame === undefined ? fromEvent(event) : current().zs[frame]);
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.pointerId !== dragging?.id) return;
    // A finger that rests on a frame trembles; that is no dragging yet.
    dragging.moved ||= Math.hypot(event.clientX - dragging.x, event.clientY - dragging.y) > 4;
    if (dragging.moved) moveTo(fromEvent(event));
  });
  for (const kind of ["pointerup", "pointercancel"]) {
    plane.addEventListener(kind, (event) => {
      if (event.pointerId === dragging?.id) dragging = null;
    });
  }
  const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  plane.addEventListener("keydown", (event) => {
    const direction = directions[event.key];
    if (!direction || !current() || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    pause();
    const step = view.half * (event.shiftKey ? 0.15 : 0.03);
    moveTo(z.map((value, i) => value + step * (direction[i] ?? 0)));
  });
}

// Play: along the z's of the sequence, round and round; from frame to frame without the way between them for those who
// want less motion.

let playing = null;

function pause() {
  if (playing === null) return;
  cancelAnimationFrame(playing);
  playing = null;
  by("play").textContent = "Play";
  by("play").setAttribute("aria-pressed", "false");
}

function play() {
  const { zs } = current();
  const start = performance.now();
  let shown = -1;
  const tick = (now) => {
    playing = requestAnimationFrame(tick);
    const time = Math.max(0, now - start) / 1000 / SECONDS_PER_FRAME;
    const [from, to] = [zs[Math.floor(time) % zs.length], zs[Math.floor(time + 1) % zs.length]];
    const part = stillness.matches ? 0 : time % 1;
    const smooth = part * part * (3 - 2 * part);
    if (stillness.matches && Math.floor(time) === shown) return;
    shown = Math.floor(time);
    moveTo(between(from, to, smooth));
  };
  playing = requestAnimationFrame(tick);
  by("play").textContent = "Pause";
  by("play").setAttribute("aria-pressed", "true");
}

// Swaps: f of one and z of the other, and the reverse; beside them each as itself, which shows what the model can show

const showSwaps = newest(async () => {
  const { A, B } = slots;
  if (!A.sequence || !B.sequence) return;
  const [a, b] = [A.sequence, B.sequence];
  try {
    const [aa, bb, ab, ba] = await Promise.all([
      model.decode(a.code, a.zs),
      model.decode(b.code, b.zs),
      model.swap(a.code, b.frames),
      model.swap(b.code, a.frames),
    ]);
    by("swaps").replaceChildren(swapTable("A", "B", b.pictures, bb, ab), swapTable("B", "A", a.pictures, aa, ba));
    settled("swap");
  } catch (error) {
    report("swap", `Swap: ${error.message}`);
  }
});

function swapTable(one, other, pictures, reconstructions, frames) {
  const row = (name, explanation, sources) => {
    const line = element("tr", {});
    const head = element("th", { scope: "row" });
    head.append(element("b", { textContent: name }), element("br", {}), explanation);
    line.append(head);
    sources.forEach((src, i) => {
      const cell = element("td", {});
      cell.append(element("img", { src, alt: `${name}, frame ${i + 1}` }));
      line.append(cell);
    });
    return line;
  };
  const box = element("div", { className: "swap", tabIndex: 0 });
  box.setAttribute("role", "group");
  box.setAttribute("aria-label", `${one} as in each frame of ${other}`);
  const table = element("table", {});
  table.append(
    row(other, "its frames", pictures),
    row(`${other} as ${other}`, `f and z of ${other}`, reconstructions.map(dataUrl)),
    row(`${one} as ${other}`, `f of ${one}, z of ${other}`, frames.map(dataUrl)),
  );
  box.append(table);
  return box;
}

// What can be kept: the picture, the path as an animation, the codes, a link

const fileName = (kind) => `${model.name}-${kind}`.replace(/[^\w.-]+/g, "_");

async function savePicture() {
  download(await toPng(by("frame")), fileName("picture.png"));
}

// The way along the z's of the sequence, as `play` goes it
async function saveGif() {
  const { zs } = current();
  const steps = zs.length === 1 ? 1 : Math.max(1, Math.min(STEPS_OF_PATH, Math.floor(MAX_STEPS / zs.length)));
  const way = zs.flatMap((from, i) =>
    Array.from({ length: steps }, (_, step) => {
      const part = step / steps;
      return between(from, zs[(i + 1) % zs.length], part * part * (3 - 2 * part));
    }),
  );
  const frames = (await model.decode(code(), way)).map(toPixels);
  const gif = toGif(frames, model.width, model.height, (1000 * SECONDS_PER_FRAME) / steps, savedScale(model.height, model.width));
  download(gif, fileName("path.gif"));
}

// A line a frame: sequence, number of the frame, z, f
function saveCodes() {
  const names = (letter, count) => Array.from({ length: count }, (_, i) => `${letter}_${i + 1}`);
  const head = ["sequence", "frame", ...names("z", model.dynamicDim), ...names("f", model.staticDim)];
  const lines = Object.values(slots).flatMap(({ letter, sequence }) =>
    (sequence?.zs ?? []).map((zOfFrame, i) => [letter, i + 1, ...zOfFrame, ...sequence.code]),
  );
  const text = [head, ...lines].map((line) => line.join(",")).join("\n");
  download(new Blob([`${text}\n`], { type: "text/csv" }), fileName("codes.csv"));
}

async function copyLink() {
  const sequences = Object.fromEntries(Object.entries(slots).map(([letter, slot]) => [letter, slot.sequence]));
  if (!Object.values(sequences).every(Boolean)) throw new Error("A link needs both sequences.");
  history.replaceState(null, "", `?model=${encodeURIComponent(model.name)}${toHash({ slots: sequences, mix, z })}`);
  const copied = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
  by("kept").textContent = copied ? "The link is in the clipboard." : "The link is in the address bar.";
}

// Start

// The names of all models, that of this page first, and of those that have example frames
async function modelNames() {
  const given = new URLSearchParams(location.search).get("model");
  try {
    const { models, examples = [] } = await ask("models.json");
    return { names: given ? [given, ...models.filter((name) => name !== given)] : models, examples };
  } catch (error) {
    if (given) return { names: [given], examples: [] };
    throw new Error(`There is no models.json beside this page to say which model to ask; add ?model=NAME to its address. (${error.message})`);
  }
}

function showModel(names) {
  const colours = model.channels === 1 ? "grey" : "colour";
  const sizes = `f of ${model.staticDim} numbers, z of ${model.dynamicDim}`;
  by("about").textContent = `${model.name}: ${model.height} × ${model.width} pixels, ${colours}, ${sizes}`;
  if (names.length > 1) {
    by("choice").hidden = false;
    by("models").append(...names.map((name) => new Option(name, name)));
    by("models").addEventListener("change", () => location.assign(`?model=${encodeURIComponent(by("models").value)}`));
  }
  document.body.classList.toggle("crisp", model.height < CRISP_BELOW);
}

function listenToButtons() {
  const actions = {
    play: () => (playing === null ? play() : pause()),
    centre: () => moveUnderPrior((prior) => prior.mean),
    draw: async () => {
      const place = await model.place();
      await moveUnderPrior((prior) => placed(place, prior));
    },
    "save-picture": savePicture,
    "save-gif": saveGif,
    "save-codes": saveCodes,
    "copy-link": copyLink,
  };
  for (const [id, action] of Object.entries(actions)) {
    by(id).addEventListener("click", async () => {
      if (!current()) return;
      by("kept").textContent = "";
      try {
        await action();
        settled(id);
      } catch (error) {
        report(id, error.message);
      }
    });
  }
  for (const input of document.querySelectorAll("input[name=who]")) {
    input.addEventListener("change", () => choose(input.value));
  }
  by("mix").addEventListener("input", () => blend(Number(by("mix").value)));
}

// What the link says, else example frames of the model, else what the model makes up
async function fillSlots(hasExamples) {
  const state = fromHash(location.hash, model);
  if (location.hash.length > 1 && !state) report("link", "The link is not one of this model, or is not whole.");
  const examples = hasExamples ? await model.examples() : null;
  let whole = true; // the link, as far as there is one
  for (const letter of ["B", "A"]) {
    const linked = state?.slots[letter];
    if (linked && !linked.example) await slots[letter].restore(linked);
    else if (examples?.[letter]) await slots[letter].example(examples[letter]);
    whole &&= !linked || (slots[letter].sequence !== null && linked.example === slots[letter].sequence.example);
    if (!slots[letter].sequence) await slots[letter].sample();
  }
  if (!whole) report("link", "The link could not be shown: what it names cannot be had now. Load the page again to try again.");
  if (!state || !whole || !current()) return;
  blend(state.mix);
  moveTo(state.z);
}

async function start() {
  const { names, examples } = await modelNames();
  const { metadata } = await ask(`${modelPath(names[0])}/metadata`);
  model = new Model(names[0], metadata.signature_def.signature_def);
  showModel(names);
  for (const letter of ["A", "B"]) slots[letter] = new Slot(letter);
  listenToPlane();
  listenToButtons();
  await fillSlots(examples.includes(model.name));
  by("main").hidden = false;
}

addEventListener("hashchange", () => location.reload()); // another link, in the tab that shows one
start().catch((error) => {
  by("about").textContent = "";
  report("start", error.message);
});
