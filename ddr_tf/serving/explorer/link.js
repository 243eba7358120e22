// What the page shows, as the part of its address behind #, which no server gets to see: codes, who, and z.

const encode = (numbers) => {
  const bytes = new Uint8Array(Float32Array.from(numbers).buffer);
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
};

const decode = (text) => {
  const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (letter) => letter.charCodeAt(0));
  return [...new Float32Array(bytes.buffer)];
};

// {A: {example} or {code, zs}, B: ..., mix, z} -> text
export function toHash({ slots, mix, z }) {
  const fields = new URLSearchParams();
  for (const [letter, { example, code, zs }] of Object.entries(slots)) {
    fields.set(letter, example ? "example" : `${encode(code)}.${encode(zs.flat())}`);
  }
  fields.set("mix", String(Math.round(mix * 1000) / 1000));
  fields.set("z", encode(z));
  return `#${fields}`;
}

// The reverse for a model; null: there is nothing, or it is of another model
export function fromHash(hash, { staticDim, dynamicDim }) {
  const fields = new URLSearchParams(hash.slice(1));
  try {
    const slots = {};
    for (const letter of ["A", "B"]) {
      const text = fields.get(letter);
      if (text === "example") {
        slots[letter] = { example: true };
        continue;
      }
      const [code, flat] = text.split(".").map(decode);
      const zs = Array.from({ length: flat.length / dynamicDim }, (_, i) => flat.slice(i * dynamicDim, (i + 1) * dynamicDim));
      if (code.length !== staticDim || !zs.length || flat.length % dynamicDim || ![...code, ...flat].every(Number.isFinite)) return null;
      slots[letter] = { code, zs };
    }
    const [mix, z] = [Number(fields.get("mix")), decode(fields.get("z"))];
    if (!(mix >= 0 && mix <= 1) || z.length !== dynamicDim || !z.every(Number.isFinite)) return null;
    return { slots, mix, z };
  } catch {
    return null;
  }
}
