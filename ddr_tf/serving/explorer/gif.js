// An animated GIF of frames: one palette for all of them by median cut, and LZW.

const COLOURS = 256;
const BITS = 5; // of each channel, that colours are told apart by
const MAX_CODE = 4095;

// RGBA frames of one size -> a file
export function toGif(frames, width, height, milliseconds, scale) {
  const palette = medianCut(histogram(frames));
  const indexOf = nearest(palette);
  const bytes = [...ascii("GIF89a"), ...word(width * scale), ...word(height * scale), 0xf7, 0, 0];
  for (let i = 0; i < COLOURS; i++) bytes.push(...(palette[i] ?? [0, 0, 0]));
  bytes.push(0x21, 0xff, 11, ...ascii("NETSCAPE2.0"), 3, 1, 0, 0, 0); // for ever
  const parts = [new Uint8Array(bytes)];
  for (const frame of frames) {
    const indices = enlarged(frame, width, height, scale, indexOf);
    const control = [0x21, 0xf9, 4, 4, ...word(Math.round(milliseconds / 10)), 0, 0];
    parts.push(new Uint8Array([...control, 0x2c, 0, 0, 0, 0, ...word(width * scale), ...word(height * scale), 0, 8]));
    parts.push(blocks(compress(indices)));
  }
  parts.push(new Uint8Array([0x3b]));
  return new Blob(parts, { type: "image/gif" });
}

const ascii = (text) => [...text].map((letter) => letter.charCodeAt(0));
const word = (value) => [value & 255, value >> 8];
const key = (r, g, b) => ((r >> (8 - BITS)) << (2 * BITS)) | ((g >> (8 - BITS)) << BITS) | (b >> (8 - BITS));

// Colours that are there: [r, g, b, how often]
function histogram(frames) {
  const cells = new Map();
  for (const frame of frames) {
    for (let i = 0; i < frame.length; i += 4) {
      const name = key(frame[i], frame[i + 1], frame[i + 2]);
      const cell = cells.get(name) ?? [0, 0, 0, 0];
      for (let c = 0; c < 3; c++) cell[c] += frame[i + c];
      cell[3]++;
      cells.set(name, cell);
    }
  }
  return [...cells.values()].map(([r, g, b, count]) => [r / count, g / count, b / count, count]);
}

// Colours in boxes, the widest of which is cut in two until there are enough: the mean of each
function medianCut(colours) {
  const boxes = [colours];
  const range = (box, c) => Math.max(...box.map((colour) => colour[c])) - Math.min(...box.map((colour) => colour[c]));
  const widest = (box) => [0, 1, 2].map((c) => [range(box, c), c]).sort((a, b) => b[0] - a[0])[0];
  const widths = [widest(colours)];
  while (boxes.length < COLOURS) {
    const number = widths.reduce((best, width, i) => (width[0] > widths[best][0] ? i : best), 0);
    if (!widths[number][0]) break;
    const [, channel] = widths[number];
    const box = boxes[number].sort((a, b) => a[channel] - b[channel]);
    const middle = box.length >> 1;
    [boxes[number], boxes[boxes.length]] = [box.slice(0, middle), box.slice(middle)];
    widths[number] = widest(boxes[number]);
    widths.push(widest(boxes.at(-1)));
  }
  return boxes.map((box) => {
    const total = box.reduce((sum, colour) => sum + colour[3], 0);
    return [0, 1, 2].map((c) => Math.round(box.reduce((sum, colour) => sum + colour[c] * colour[3], 0) / total));
  });
}

// A function from a colour to the number of the nearest one of the palette
function nearest(palette) {
  const known = new Map();
  return (r, g, b) => {
    const name = key(r, g, b);
    if (!known.has(name)) {
      let best = 0;
      let least = Infinity;
      palette.forEach((colour, i) => {
        const distance = (colour[0] - r) ** 2 + (colour[1] - g) ** 2 + (colour[2] - b) ** 2;
        if (distance < least) [best, least] = [i, distance];
      });
      known.set(name, best);
    }
    return known.get(name);
  };
}

function enlarged(frame, width, height, scale, indexOf) {
  const indices = new Uint8Array(width * height * scale * scale);
  let i = 0;
  for (let y = 0; y < height * scale; y++) {
    for (let x = 0; x < width * scale; x++) {
      const at = 4 * (Math.floor(y / scale) * width + Math.floor(x / scale));
      indices[i++] = indexOf(frame[at], frame[at + 1], frame[at + 2]);
    }
  }
  return indices;
}

// LZW with codes of 9 to 12 bits
function compress(indices) {
  const [clear, end] = [256, 257];
  const bytes = [];
  let [buffer, filled, size, next] = [0, 0, 9, 258];
  let codes = new Map();
  const emit = (code) => {
    buffer |= code << filled;
    for (filled += size; filled >= 8; filled -= 8) {
      bytes.push(buffer & 255);
      buffer >>>= 8;
    }
  };
  emit(clear);
  let prefix = indices[0];
  for (let i = 1; i < indices.length; i++) {
    const name = (prefix << 8) | indices[i];
    const code = codes.get(name);
    if (code !== undefined) {
      prefix = code;
      continue;
    }
    emit(prefix);
    if (next > MAX_CODE) {
      emit(clear);
      [codes, size, next] = [new Map(), 9, 258];
    } else {
      if (next === 1 << size) size++;
      codes.set(name, next++);
    }
    prefix = indices[i];
  }
  emit(prefix);
  emit(end);
  if (filled) bytes.push(buffer & 255);
  return bytes;
}

// In blocks of at most 255 bytes
function blocks(bytes) {
  const parts = [];
  for (let i = 0; i < bytes.length; i += 255) {
    const block = bytes.slice(i, i + 255);
    parts.push(block.length, ...block);
  }
  return new Uint8Array([...parts, 0]);
}
