// The explorer. It speaks to the model by TF Serving's REST API alone: v1/models/NAME, beside this page. The name is that
// of ?model=NAME, else the first of models.json, which lies beside this page, too.

const SVG = "http://www.w3.org/2000/svg";
const PLANE = 500; // units of the drawing
const THUMB = 40;
const SAMPLED_FRAMES = 6;
const MOST_FRAMES = 32;
const SECONDS_PER_FRAME = 0.8;
const CRISP_BELOW = 49; // pixels; smaller frames are enlarged without smoothing
const TIMEOUT = 60_000;

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

// The model

async function ask(path, body) {
  let answer;
  let document_;
  try {
    const options = { signal: AbortSignal.timeout(TIMEOUT) };
    const headers = { "Content-Type": "application/json" };
    if (body) Object.assign(options, { method: "POST", headers, body: JSON.stringify(body) });
    answer = await fetch(path, options);
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Error(late ? "The server takes too long to answer." : "The server does not answer. Is it still running?");
  }
  try {
    document_ = await answer.json();
  } catch {
    throw new Error(`The server gave no answer that can be read (status ${answer.status}).`);
  }
  if (answer.ok) return document_;
  if (answer.status === 413) throw new Error("These are too many images at once for the server. Take fewer.");
  if (answer.status === 503) throw new Error("The server is busy. Try again in a moment.");
  throw new Error(`The server refuses: ${document_.error ?? `status ${answer.status}`}`);
}

class Model {
  constructor(name, signatures) {
    const sizes = (signature, input) =>
      signatures[signature].inputs[input].tensor_shape.dim.map((dimension) => Number(dimension.size));
    this.name = name;
    [, , this.height, this.width, this.channels] = sizes("encode", "frames");
    [, this.staticDim] = sizes("decode", "static");
    [, , this.dynamicDim] = sizes("decode", "dynamic");
  }

  async predict(signature_name, inputs) {
    return (await ask(modelPath(this.name) + ":predict", { signature_name, inputs })).outputs;
  }

  // f -> mean and stddev of p(z | f), [2] each
  async prior(code) {
    const { mean, stddev } = await this.predict("prior", { static: [code] });
    return { mean: mean[0], stddev: stddev[0] };
  }

  // f, z's -> frames
  async decode(code, zs) {
    return (await this.predict("decode", { static: [code], dynamic: [zs] }))[0];
  }

  // A sequence that does not exist: f from the density fitted after training, z from p(z | f)
  async sample(frames_per_sequence) {
    const seed = [0, 0].map(() => Math.floor(Math.random() * 2 ** 31));
    const drawn = await this.predict("sample", { count: 1, frames_per_sequence, seed });
    return { code: drawn.static[0], zs: drawn.dynamic[0], frames: drawn.frames[0] };
  }

  async encode(frames) {
    const { static_mean, dynamic_mean } = await this.predict("encode", { frames: [frames] });
    return { code: static_mean[0], zs: dynamic_mean[0] };
  }

  // Who has the code f, as in each of the frames: with the z that shows this pose for this f
  async swap(code, frames) {
    const { dynamic_mean } = await this.predict("encode_dynamic", { frames: [frames], static: [code] });
    return this.decode(code, dynamic_mean[0]);
  }
}

const modelPath = (name) => `v1/models/${encodeURIComponent(name)}`;

function normal() {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
}

const drawn = ({ mean, stddev }) => mean.map((centre, i) => centre + stddev[i] * normal());

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

// Frames: [H][W][C] of numbers in [0, 1]

function drawFrame(canvas, frame) {
  const [height, width, channels] = [frame.length, frame[0].length, frame[0][0].length];
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  let i = 0;
  for (const row of frame) {
    for (const pixel of row) {
      for (let c = 0; c < 3; c++) image.data[i++] = Math.round(255 * (pixel[channels === 3 ? c : 0] ?? 0));
      image.data[i++] = 255;
    }
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function dataUrl(frame) {
  const canvas = document.createElement("canvas");
  drawFrame(canvas, frame);
  return canvas.toDataURL();
}

// An image file -> a frame: its middle, scaled, on black, grey if the model's frames are
async function readImage(file, { height, width, channels }) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no image that this browser can read.`);
  }
  const scale = Math.max(width / image.width, height / image.height);
  const [w, h] = [width / scale, height / scale];
  const canvas = element("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillRect(0, 0, width, height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, (image.width - w) / 2, (image.height - h) / 2, w, h, 0, 0, width, height);
  image.close();
  const { data } = context.getImageData(0, 0, width, height);
  const number = (value) => Math.round((value / 255) * 1e5) / 1e5;
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const [r, g, b] = data.subarray(4 * (y * width + x));
      return channels === 1 ? [number(0.299 * r + 0.587 * g + 0.114 * b)] : [number(r), number(g), number(b)];
    }),
  );
}

// The page

let model;
const slots = {}; // "A", "B" -> Slot
let who = "A";
let z = [0, 0];
const current = () => slots[who].sequence;

class Slot {
  constructor(letter) {
    this.letter = letter;
    this.sequence = null; // {code, prior, zs, frames, pictures}
    this.attempt = 0;
    this.box = by(`slot-${letter}`);
    this.box.classList.add(`of-${letter}`);
    this.box.append(by("slot-template").content.cloneNode(true));
    this.box.querySelector("h3").textContent = `Sequence ${letter}`;
    this.status = this.box.querySelector(".status");
    const input = this.box.querySelector("input");
    input.setAttribute("aria-label", `Upload images as sequence ${letter}`);
    input.addEventListener("change", () => {
      this.upload([...input.files]);
      input.value = ""; // so that the same files can be chosen again
    });
    const sample = this.box.querySelector(".sample");
    sample.title = "A sequence that never was, drawn from the model";
    sample.setAttribute("aria-label", `Sample sequence ${letter} from the model`);
    sample.addEventListener("click", () => this.sample());
    for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
      this.box.addEventListener(kind, (event) => {
        event.preventDefault();
        this.box.classList.toggle("over", kind === "dragenter" || kind === "dragover");
        if (kind === "drop") this.upload([...event.dataTransfer.files]);
      });
    }
  }

  sample() {
    return this.become("sampling …", "drawn from the model", async () => {
      const sequence = await model.sample(SAMPLED_FRAMES);
      return { ...sequence, prior: await model.prior(sequence.code) };
    });
  }

  upload(files) {
    if (!files.length) return undefined;
    return this.become("encoding …", "uploaded", async () => {
      if (files.length > MOST_FRAMES) throw new Error(`At most ${MOST_FRAMES} images at once; these are ${files.length}.`);
      files.sort((a, b) => a.name.localeCompare(b.name, undefined, { numeric: true }));
      const frames = await Promise.all(files.map((file) => readImage(file, model)));
      const { code, zs } = await model.encode(frames);
      return { code, prior: await model.prior(code), zs, frames };
    });
  }

  // Takes on another sequence, unless something newer was asked for meanwhile.
  async become(busy, done, make) {
    const attempt = ++this.attempt;
    const before = this.status.textContent;
    this.status.textContent = busy;
    this.box.setAttribute("aria-busy", "true");
    try {
      const sequence = await make();
      if (attempt !== this.attempt) return;
      sequence.pictures = sequence.frames.map(dataUrl);
      this.sequence = sequence;
      const count = sequence.frames.length;
      this.status.textContent = `${count} ${count === 1 ? "frame" : "frames"}, ${done}`;
      settled(this.letter);
      this.showStrip();
      choose(this.letter);
      showSwaps();
    } catch (error) {
      if (attempt !== this.attempt) return;
      this.status.textContent = before;
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

// Whose f it is, and with it the plane
function choose(letter) {
  if (!slots[letter].sequence) return;
  who = letter;
  document.querySelector(`input[name=who][value=${letter}]`).checked = true;
  pause();
  drawPlane();
  moveTo(slots[letter].sequence.zs[0]);
}

function moveTo(position) {
  const { centre, half } = view;
  z = position.map((value, i) => Math.min(Math.max(value, centre[i] - half), centre[i] + half));
  const [x, y] = toPlane(z);
  for (const part of by("plane").querySelectorAll(".z")) part.setAttribute("transform", `translate(${x} ${y})`);
  by("z").textContent = `(${z.map((value) => value.toFixed(2).replace("-", "−")).join(", ")})`;
  for (const letter of Object.keys(slots)) {
    const zs = slots[letter].sequence?.zs ?? [];
    slots[letter].box.querySelectorAll(".strip button").forEach((button, i) => {
      const here = letter === who && Math.hypot(zs[i][0] - z[0], zs[i][1] - z[1]) < 1e-6;
      button.setAttribute("aria-current", String(here));
    });
  }
  showDecoded(current().code, z);
}

const showDecoded = newest(async (code, position) => {
  const start = performance.now();
  try {
    const [frame] = await model.decode(code, [position]);
    drawFrame(by("frame"), frame);
    by("latency").textContent = `${Math.round(performance.now() - start)} ms`;
    settled("decode");
  } catch (error) {
    report("decode", error.message);
    pause();
  }
});

// The plane

let view = { centre: [0, 0], half: 1 };

const toPlane = ([x, y]) => [
  (PLANE * (x - view.centre[0] + view.half)) / (2 * view.half),
  (PLANE * (view.centre[1] + view.half - y)) / (2 * view.half), // upwards
];

function fromEvent(event) {
  const box = by("plane").getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width;
  const y = (event.clientY - box.top) / box.height;
  return [view.centre[0] + view.half * (2 * x - 1), view.centre[1] + view.half * (1 - 2 * y)];
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
  for (const axis of [0, 1]) {
    const last = view.centre[axis] + view.half;
    for (let n = Math.ceil((view.centre[axis] - view.half) / step); n * step <= last; n++) {
      const at = toPlane(axis ? [0, n * step] : [n * step, 0])[axis];
      const ends = axis ? { x1: 0, x2: PLANE, y1: at, y2: at } : { x1: at, x2: at, y1: 0, y2: PLANE };
      parts.push(svg("line", { ...ends, class: n === 0 ? "axis" : "grid" }));
      if (at < 24 || at > PLANE - 24) continue; // where names of axes are
      const where = axis ? { x: 5, y: at - 4 } : { x: at + 4, y: PLANE - 6 };
      parts.push(svg("text", { ...where, class: "tick" }, (n * step).toFixed(decimals).replace("-", "−")));
    }
  }
  parts.push(svg("text", { x: PLANE - 16, y: PLANE - 6, class: "tick" }, "z₁"));
  parts.push(svg("text", { x: 5, y: 14, class: "tick" }, "z₂"));
  const [cx, cy] = toPlane(prior.mean);
  for (const times of [2, 1]) {
    const [rx, ry] = prior.stddev.map((stddev) => (times * stddev * PLANE) / (2 * view.half));
    parts.push(svg("ellipse", { cx, cy, rx, ry, class: "ellipse" }));
  }
  const places = zs.map(toPlane);
  parts.push(svg("polyline", { points: places.map((place) => place.join()).join(" "), class: "path" }));
  parts.push(...places.map((place, i) => thumbnail(place, pictures[i], i)), ...places.map(dot));
  parts.push(svg("g", { class: "z" }, svg("circle", { r: 13, class: "handle-back" }), svg("circle", { r: 11, class: "handle" })));
  const plane = by("plane");
  plane.setAttribute("viewBox", `0 0 ${PLANE} ${PLANE}`);
  plane.setAttribute("class", `of-${who}`);
  plane.replaceChildren(...parts);
}

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
    moveTo(z.map((value, i) => value + step * direction[i]));
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
    moveTo(from.map((value, i) => value + smooth * (to[i] - value)));
  };
  playing = requestAnimationFrame(tick);
  by("play").textContent = "Pause";
  by("play").setAttribute("aria-pressed", "true");
}

// Swaps: f of one and z of the other, and the reverse

const showSwaps = newest(async () => {
  const { A, B } = slots;
  if (!A.sequence || !B.sequence) return;
  const [a, b] = [A.sequence, B.sequence];
  try {
    const [ab, ba] = await Promise.all([model.swap(a.code, b.frames), model.swap(b.code, a.frames)]);
    by("swaps").replaceChildren(swapTable("A", "B", b.pictures, ab), swapTable("B", "A", a.pictures, ba));
    settled("swap");
  } catch (error) {
    report("swap", `Swap: ${error.message}`);
  }
});

function swapTable(one, other, pictures, frames) {
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
    row(`${one} as ${other}`, `f of ${one}, z of ${other}`, frames.map(dataUrl)),
  );
  box.append(table);
  return box;
}

// Start

async function modelNames() {
  const given = new URLSearchParams(location.search).get("model");
  try {
    const { models } = await ask("models.json");
    return given ? [given, ...models.filter((name) => name !== given)] : models;
  } catch (error) {
    if (given) return [given];
    throw new Error(`There is no models.json beside this page to say which model to ask; add ?model=NAME to its address. (${error.message})`);
  }
}

async function start() {
  const names = await modelNames();
  const { metadata } = await ask(`${modelPath(names[0])}/metadata`);
  model = new Model(names[0], metadata.signature_def.signature_def);
  if (model.dynamicDim !== 2) {
    throw new Error(`This page shows models whose z has two numbers; that of ${model.name} has ${model.dynamicDim}.`);
  }
  const colours = model.channels === 1 ? "grey" : "colour";
  by("about").textContent = `${model.name}: ${model.height} × ${model.width} pixels, ${colours}, f of ${model.staticDim} numbers, z of 2`;
  if (names.length > 1) {
    by("choice").hidden = false;
    by("models").append(...names.map((name) => new Option(name, name)));
    by("models").addEventListener("change", () => location.assign(`?model=${encodeURIComponent(by("models").value)}`));
  }
  document.body.classList.toggle("crisp", model.height < CRISP_BELOW);
  for (const letter of ["A", "B"]) slots[letter] = new Slot(letter);
  listenToPlane();
  const actions = {
    play: () => (playing === null ? play() : pause()),
    centre: () => (pause(), moveTo(current().prior.mean)),
    draw: () => (pause(), moveTo(drawn(current().prior))),
  };
  for (const [id, action] of Object.entries(actions)) by(id).addEventListener("click", () => current() && action());
  for (const input of document.querySelectorAll("input[name=who]")) {
    input.addEventListener("change", () => choose(input.value));
  }
  await slots.B.sample();
  await slots.A.sample();
  by("main").hidden = false;
}

start().catch((error) => {
  by("about").textContent = "";
  report("start", error.message);
});
