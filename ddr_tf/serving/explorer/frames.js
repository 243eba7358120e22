// Frames, [H][W][C] of numbers in [0, 1], from images and to canvases and files.

const SAVED_SIDE = 256; // pixels that a saved picture has at least

// [H][W][C] -> RGBA, 4 H W bytes
export function toPixels(frame) {
  const channels = frame[0][0].length;
  const pixels = new Uint8ClampedArray(4 * frame.length * frame[0].length);
  let i = 0;
  for (const row of frame) {
    for (const pixel of row) {
      for (let c = 0; c < 3; c++) pixels[i++] = Math.round(255 * (pixel[channels === 3 ? c : 0] ?? 0));
      pixels[i++] = 255;
    }
  }
  return pixels;
}

export function drawFrame(canvas, frame) {
  canvas.width = frame[0].length;
  canvas.height = frame.length;
  canvas.getContext("2d").putImageData(new ImageData(toPixels(frame), canvas.width, canvas.height), 0, 0);
}

export function dataUrl(frame) {
  const canvas = document.createElement("canvas");
  drawFrame(canvas, frame);
  return canvas.toDataURL();
}

// How many pixels of a saved picture are one of a frame
export const savedScale = (height, width) => Math.max(1, Math.ceil(SAVED_SIDE / Math.min(height, width)));

// What a canvas shows as a PNG file, enlarged without smoothing
export function toPng(canvas) {
  const scale = savedScale(canvas.height, canvas.width);
  const large = document.createElement("canvas");
  large.width = scale * canvas.width;
  large.height = scale * canvas.height;
  const context = large.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(canvas, 0, 0, large.width, large.height);
  return new Promise((resolve) => large.toBlob(resolve, "image/png"));
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// An image file -> a frame: its middle, scaled, on black, grey if the model's frames are
export async function readImage(file, { height, width, channels }) {
  let image;
  try {
    image = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is no image that this browser can read.`);
  }
  const scale = Math.max(width / image.width, height / image.height);
  const [w, h] = [width / scale, height / scale];
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
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

// Files that were dropped, those of dropped folders among them
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return { files: [...transfer.files], folder: false };
  const files = (await Promise.all(entries.map(filesOf))).flat();
  return { files, folder: true };
}

async function filesOf(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // at most 100 at once
    if (!some.length) return files;
    files.push(...(await Promise.all(some.map(filesOf))).flat());
  }
}

// As many items, spread over all of them
export function spread(items, count) {
  if (items.length <= count) return items;
  return Array.from({ length: count }, (_, i) => items[Math.round((i * (items.length - 1)) / (count - 1))]);
}
