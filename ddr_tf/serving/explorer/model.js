// The model, by TF Serving's REST API: v1/models/NAME, beside the page.

const TIMEOUT = 60_000;

export async function ask(path, body) {
  let reply;
  let content;
  try {
    const options = { signal: AbortSignal.timeout(TIMEOUT) };
    const headers = { "Content-Type": "application/json" };
    if (body) Object.assign(options, { method: "POST", headers, body: JSON.stringify(body) });
    reply = await fetch(path, options);
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Error(late ? "The server takes too long to answer." : "The server does not answer. Is it still running?");
  }
  try {
    content = await reply.json();
  } catch {
    throw new Error(`The server gave no answer that can be read (status ${reply.status}).`);
  }
  if (reply.ok) return content;
  if (reply.status === 413) throw new Error("These are too many images at once for the server. Take fewer.");
  if (reply.status === 503) throw new Error("The server is busy. Try again in a moment.");
  throw new Error(`The server refuses: ${content.error ?? `status ${reply.status}`}`);
}

export const modelPath = (name) => `v1/models/${encodeURIComponent(name)}`;

export class Model {
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

  // f -> mean and stddev of p(z | f), [Z] each
  async prior(code) {
    const { mean, stddev } = await this.predict("prior", { static: [code] });
    return { mean: mean[0], stddev: stddev[0] };
  }

  // f, z's -> frames
  async decode(code, zs) {
    return (await this.predict("decode", { static: [code], dynamic: [zs] }))[0];
  }

  // A sequence that does not exist: f and z from the densities fitted after training
  async sample(frames_per_sequence) {
    const seed = [0, 0].map(() => Math.floor(Math.random() * 2 ** 31));
    const sequence = await this.predict("sample", { count: 1, frames_per_sequence, seed });
    return { code: sequence.static[0], zs: sequence.dynamic[0], frames: sequence.frames[0] };
  }

  // Where a z lies under p(z | f), in standard deviations from its mean: from the density fitted after training
  async place() {
    const { code, zs } = await this.sample(1);
    const { mean, stddev } = await this.prior(code);
    return zs[0].map((value, i) => (value - mean[i]) / stddev[i]);
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

  // Addresses of example frames of sequences A and B
  async examples() {
    const folder = `examples/${encodeURIComponent(this.name)}`;
    const names = Object.entries(await ask(`${folder}/examples.json`));
    return Object.fromEntries(names.map(([letter, files]) => [letter, files.map((file) => `${folder}/${file}`)]));
  }
}

// The z that lies so many standard deviations from the mean of p(z | f)
export const placed = (place, { mean, stddev }) => mean.map((centre, i) => centre + stddev[i] * place[i]);

// a at 0, b at 1
export const between = (a, b, part) => a.map((value, i) => value + part * (b[i] - value));
