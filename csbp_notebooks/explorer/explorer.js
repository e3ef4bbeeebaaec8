// The explorer: the published Example 1 with sliders, on the site and, by anywidget, in Jupyter.
//
// One ES module without dependencies. From the top: the parameters, the map (csbp_core.dynamics
// once more), links and commands, drawing, and the page with its controls.

// ---------------------------------------------------------------------------------------------
// The parameters

// `argument` is what notebook 02 calls it; a slider goes from `min` to `max`.
export const SLIDERS = {
  z0: {
    symbol: "z<sub>0</sub>", says: "strength <i>z</i> at epoch 0",
    argument: "z", min: 0.5, max: 12, step: 0.01, digits: 2,
  },
  beta: {
    symbol: "β", says: "factor of <i>z</i> per epoch",
    argument: "beta", min: 0.998, max: 1, step: 0.00001, digits: 5,
  },
  I0: {
    symbol: "I<sub>0</sub>", says: "what the sigmoid is pulled to",
    argument: "I0", min: 0.05, max: 0.95, step: 0.005, digits: 3,
  },
  lr: {
    symbol: "lr", says: "learning rate",
    argument: "lr", min: 0.1, max: 2, step: 0.01, digits: 2,
  },
  w0: {
    symbol: "w<sub>0</sub>", says: "weight and bias at epoch 0",
    argument: "w0", min: -5, max: 5, step: 0.01, digits: 2,
  },
  time_steps: {
    symbol: "T", says: "time steps that are simulated",
    argument: "time_steps", min: 1, max: 40, step: 1, digits: 0,
  },
  rate_steps: {
    symbol: "D", says: "divisor of the spike count",
    argument: "rate_steps", min: 5, max: 40, step: 1, digits: 0,
  },
};

export const EPOCHS = 4000; // of a run, as published
const LAST_EPOCH = EPOCHS - 1;

const RANGES = { ...SLIDERS, epoch: { min: 0, max: LAST_EPOCH, digits: 0 } };

export const PUBLISHED = {
  z0: 10, beta: 0.9995, I0: 0.65, lr: 1, w0: 0.5, time_steps: 20, rate_steps: 10, bp: true,
};

export const PRESETS = [
  {
    name: "published", parameters: PUBLISHED, epoch: 1200,
    says: "The published parameters: a first burst, branches that merge, a second burst whose end "
      + "is left to rounding, rest.",
  },
  {
    name: "no second burst", parameters: { ...PUBLISHED, bp: false }, epoch: 1500,
    says: "Without the BP gradient the two branches merge into the rest, and nothing bursts again: "
      + "the second burst is BP's, switched on where the upper branch falls below w = 1.",
  },
  {
    name: "period 3", parameters: { ...PUBLISHED, beta: 1 }, epoch: 3000,
    says: "z stays at 10, and soon the weight repeats every three epochs: even where training "
      + "starts, the map for itself is not chaotic.",
  },
  {
    name: "two attractors", parameters: { ...PUBLISHED, z0: 3.85, beta: 1 }, epoch: 3000,
    says: "z stays at 3.85, where rest is stable; yet this run never rests, but repeats every five "
      + "epochs. Drag its start to w₀ = 1.5, and it comes to rest.",
  },
];

const START = { ...PUBLISHED, epoch: PRESETS[0].epoch }; // what a new explorer shows

// ---------------------------------------------------------------------------------------------
// The map: one epoch of training, as in csbp_core/dynamics/kernels.py, operation by operation

const DECAY = 0.2; // of the potential, per time step
const THRESHOLD = 1;
const GAMMA = 1; // half-width of the surrogate's triangle
const STEEPNESS = 1 / GAMMA ** 2;
const NEVER_FIRES = THRESHOLD * (1 - DECAY) * (1 - 1e-12); // a current up to which no spike comes

// Math.exp may differ from browser to browser in the last place, which chaos makes visible within
// tens of epochs. This one is sums and products, which all of them round alike, and within an ulp:
// e**x = 2**k e**r with x = k ln 2 + r, |r| <= ln 2 / 2, and 13 terms of the series of e**r.
const LOWEST = -708;
const HIGHEST = 710;
const ROUNDING = 1.5 * 2 ** 52; // x + ROUNDING is x rounded to an integer, shifted
const LN2_HIGH = 0.693147180369123816490; // ends in zero bits: k times it is exact
const LN2_LOW = 1.90821492927058770002e-10;
const TERMS = seriesOfExp(14);
const SMALLEST_POWER = -1022;
const POWERS = powersOfTwo(SMALLEST_POWER, 1024);

function seriesOfExp(length) {
  const terms = [1];
  let factorial = 1;
  for (let n = 1; n < length; n += 1) {
    factorial *= n;
    terms.push(1 / factorial);
  }
  return terms;
}

// By doubling and halving, which are exact; 2 ** k need not be.
function powersOfTwo(first, last) {
  const powers = new Float64Array(last - first + 1);
  powers[-first] = 1;
  for (let k = 1; k <= last; k += 1) powers[k - first] = powers[k - 1 - first] * 2;
  for (let k = -1; k >= first; k -= 1) powers[k - first] = powers[k + 1 - first] / 2;
  return powers;
}

/** e**x, to one unit in the last place. */
export function exp(x) {
  const bounded = Math.min(Math.max(x, LOWEST), HIGHEST);
  const k = bounded * (1 / Math.LN2) + ROUNDING - ROUNDING;
  const r = bounded - k * LN2_HIGH - k * LN2_LOW;
  const r2 = r * r;
  const r4 = r2 * r2;
  const low = TERMS[2] + TERMS[3] * r + (TERMS[4] + TERMS[5] * r) * r2;
  const middle = TERMS[6] + TERMS[7] * r + (TERMS[8] + TERMS[9] * r) * r2;
  const high = TERMS[10] + TERMS[11] * r + (TERMS[12] + TERMS[13] * r) * r2;
  const series = 1 + (r + r2 * (low + r4 * (middle + r4 * high)));
  return series * POWERS[k - SMALLEST_POWER];
}

/** G(w): the gradient of the BP loss by the surrogate, the path through the reset included. */
export function bpGradient(w, { time_steps, rate_steps }) {
  const current = 2 * w;
  const surrogateIsZero = current >= THRESHOLD + GAMMA; // it fires at every step
  if (current <= NEVER_FIRES || surrogateIsZero) return 0;
  let m = current;
  let slope = 1; // of m by the current, through the surrogate
  let sum = 0;
  let count = 0;
  for (let t = 0; t < time_steps; t += 1) {
    const surrogate = STEEPNESS * Math.max(0, GAMMA - Math.abs(m - THRESHOLD));
    const reset = m * surrogate; // what the reset takes of a change of m
    sum += surrogate * slope;
    if (m > THRESHOLD) {
      count += 1;
      slope = 1 - DECAY * reset * slope;
      m = current;
    } else {
      slope = DECAY * (1 - reset) * slope + 1;
      m = DECAY * m + current;
    }
  }
  return ((2 * count) / (rate_steps * rate_steps)) * sum;
}

/** f(w; z): the weight after one more epoch. */
export function step(w, z, parameters) {
  const sigmoid = 1 / (1 + exp(-2 * w));
  const following = w - parameters.lr * (z * (sigmoid - parameters.I0));
  if (!parameters.bp) return following;
  return following - parameters.lr * bpGradient(w, parameters);
}

/** The run: w before each epoch, and z there. */
export function anneal(parameters, epochs = EPOCHS) {
  const weights = new Float64Array(epochs);
  const strengths = new Float64Array(epochs);
  let w = parameters.w0;
  let z = parameters.z0;
  for (let n = 0; n < epochs; n += 1) {
    weights[n] = w;
    strengths[n] = z;
    w = step(w, z, parameters);
    z *= parameters.beta;
  }
  return { w: weights, z: strengths };
}

/** w*, where the chaotic loss alone is at rest. */
export function restPoint({ I0 }) {
  return Math.log(I0 / (1 - I0)) / 2;
}

/** z_c, below which w* is stable against small disturbances. */
export function criticalZ({ I0, lr }) {
  return 1 / (lr * I0 * (1 - I0));
}

/** Between which weights the BP gradient acts. */
export function bpWindow({ time_steps }) {
  let gain = 0; // the potential after all steps without a spike, per unit of current
  for (let t = 0; t < time_steps; t += 1) gain += DECAY ** t;
  return { low: THRESHOLD / 2 / gain, high: (THRESHOLD + GAMMA) / 2 };
}

/** Whether z_c says when w* is stable: where BP acts, too, w* is no rest of the two together. */
export function criticalHolds(parameters) {
  if (!parameters.bp) return true;
  const { low, high } = bpWindow(parameters);
  const rest = restPoint(parameters);
  return rest < low || rest >= high;
}

// Orbits that settle are known by their return: the period of most is a divisor of 48.
const STRIDE = 48;
const SETTLED = 1e-7;
const STRIDES_LEFT_OUT = 6;
const LEFT_OUT = STRIDES_LEFT_OUT * STRIDE; // epochs, at most, before those that are drawn
const STRIDES_KEPT = 2;
export const KEPT = STRIDES_KEPT * STRIDE; // epochs that are drawn at each z, of each start
const STARTS_FIXED = [-1, 0.5, 2]; // weights; one more lies beside w*
const STARTS = STARTS_FIXED.length + 1;

/** Where orbits stay at fixed z: [columns, STARTS, KEPT] weights, from several starts at each z. */
export function orbitDiagram(strengths, parameters) {
  const starts = [restPoint(parameters) + 0.01, ...STARTS_FIXED];
  const points = new Float32Array(strengths.length * STARTS * KEPT);
  let place = 0;
  for (const z of strengths) {
    for (const start of starts) {
      fillOrbit(points.subarray(place, place + KEPT), start, z, parameters);
      place += KEPT;
    }
  }
  return points;
}

function fillOrbit(points, start, z, parameters) {
  let w = start;
  let settled = false;
  for (let stride = 0; stride < STRIDES_LEFT_OUT && !settled; stride += 1) {
    const before = w;
    for (let n = 0; n < STRIDE; n += 1) w = step(w, z, parameters);
    settled = Math.abs(w - before) < SETTLED;
  }
  const computed = settled ? STRIDE : KEPT; // what has settled repeats itself
  for (let n = 0; n < computed; n += 1) {
    points[n] = w;
    w = step(w, z, parameters);
  }
  points.copyWithin(computed, 0, KEPT - computed);
}

const TRANSIENT = 20000;
const LONGEST_PERIOD = 64;

/** Where an orbit from w ends at fixed z: its period, 0 if it is none up to 64, and its weights. */
export function attractorFrom(w, z, parameters) {
  let end = w;
  for (let n = 0; n < TRANSIENT; n += 1) end = step(end, z, parameters);
  const orbit = new Float64Array(2 * LONGEST_PERIOD);
  for (let n = 0; n < orbit.length; n += 1) {
    orbit[n] = end;
    end = step(end, z, parameters);
  }
  for (let period = 1; period <= LONGEST_PERIOD; period += 1) {
    if (repeats(orbit, period)) return { period, weights: orbit.subarray(0, period) };
  }
  return { period: 0, weights: orbit };
}

function repeats(orbit, period) {
  for (let n = period; n < orbit.length; n += 1) {
    if (Math.abs(orbit[n] - orbit[n - period]) > SETTLED) return false;
  }
  return true;
}

// ---------------------------------------------------------------------------------------------
// Links and commands

/** The command that does the same run, by PyTorch in float32. */
export function command(parameters) {
  const words = ["csbp-run 02_single_neuron_csbp"];
  for (const [name, { argument }] of Object.entries(SLIDERS)) {
    if (parameters[name] === PUBLISHED[name]) continue;
    words.push(`-p ${argument} ${parameters[name]}`);
    if (name === "w0") words.push(`-p b0 ${parameters[name]}`); // they start equal, and stay so
  }
  // The notebook has no switch for BP. A neuron that never fires has no BP gradient.
  if (!parameters.bp) words.push("-p v_threshold 1000");
  return words.join(" ");
}

/** What differs from the start, as the fragment of an address; "" if nothing does. */
export function toFragment(shown) {
  const names = Object.keys(shown).filter((name) => shown[name] !== START[name]);
  return names.map((name) => `${name}=${shown[name]}`).join("&");
}

/** The parameters and the epoch in a fragment, and a sentence for each that cannot be taken. */
export function fromFragment(fragment) {
  const parameters = {};
  const refused = [];
  if (!fragment.includes("=")) return { parameters, refused };
  for (const [name, text] of new URLSearchParams(fragment)) {
    try {
      parameters[name] = checked(name, text);
    } catch (error) {
      refused.push(error.message);
    }
  }
  return { parameters, refused };
}

function checkedAll(parameters) {
  const entries = Object.entries(parameters);
  return Object.fromEntries(entries.map(([name, value]) => [name, checked(name, String(value))]));
}

/** A value of a parameter, from text; RangeError that says what is allowed. */
function checked(name, text) {
  if (name === "bp") {
    if (text === "true" || text === "false") return text === "true";
    throw new RangeError(`bp = ${text}: must be true or false`);
  }
  if (!Object.hasOwn(RANGES, name)) throw new RangeError(`${name} is no parameter`);
  const { min, max, digits } = RANGES[name];
  const value = Number(text);
  const isWhole = digits > 0 || Number.isInteger(value);
  if (text.trim() !== "" && value >= min && value <= max && isWhole) return value;
  const kind = digits > 0 ? "a number" : "an integer";
  throw new RangeError(`${name} = ${text}: must be ${kind} in [${min}, ${max}]`);
}

// ---------------------------------------------------------------------------------------------
// Drawing

const FONT_SIZE = "12px";
const SUBSCRIPT_SIZE = "9px";
const MARGIN = { left: 46, right: 18, top: 22, bottom: 38 };

/** A plane in which numbers become pixels; `log` is of the horizontal axis. */
class Plane {
  constructor(canvas, { x, y, log = false }) {
    this.context = canvas.getContext("2d");
    this.left = MARGIN.left;
    this.top = MARGIN.top;
    this.width = canvas.clientWidth - MARGIN.left - MARGIN.right;
    this.height = canvas.clientHeight - MARGIN.top - MARGIN.bottom;
    this.xRange = x;
    this.yRange = y;
    this.log = log;
  }

  get right() {
    return this.left + this.width;
  }

  get bottom() {
    return this.top + this.height;
  }

  shareOf(x) {
    const [first, last] = this.xRange;
    if (this.log) return Math.log(x / first) / Math.log(last / first);
    return (x - first) / (last - first);
  }

  px(x) {
    return this.left + this.shareOf(x) * this.width;
  }

  py(y) {
    const [low, high] = this.yRange;
    return this.bottom - ((y - low) / (high - low)) * this.height;
  }

  /** The number that stands at a share of the horizontal axis. */
  xAt(share) {
    const [first, last] = this.xRange;
    if (this.log) return first * (last / first) ** share;
    return first + share * (last - first);
  }

  /** Draw inside of the axes only. */
  clipped(draw) {
    this.context.save();
    this.context.beginPath();
    this.context.rect(this.left, this.top, this.width, this.height);
    this.context.clip();
    draw(this.context);
    this.context.restore();
  }

  line(color, points, { width = 1, dash = [] } = {}) {
    const { context } = this;
    context.strokeStyle = color;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    for (const [x, y] of points) context.lineTo(x, y);
    context.stroke();
    context.setLineDash([]);
  }

  vertical(color, x, style) {
    this.line(color, [[this.px(x), this.top], [this.px(x), this.bottom]], style);
  }

  horizontal(color, y, style) {
    this.line(color, [[this.left, this.py(y)], [this.right, this.py(y)]], style);
  }

  dot(color, x, y, ring) {
    const { context } = this;
    context.fillStyle = color;
    context.strokeStyle = ring;
    context.lineWidth = 2;
    context.beginPath();
    context.arc(this.px(x), this.py(y), 5.5, 0, 2 * Math.PI);
    context.stroke();
    context.fill();
  }

  /** z_c, on a ground of its own. */
  criticalSymbol(colors, x, y) {
    const { context } = this;
    const size = { width: 15, height: 16 };
    context.fillStyle = colors.ground;
    context.fillRect(x - 1, y - 10, size.width, size.height);
    context.fillStyle = colors.text;
    context.textAlign = "left";
    context.font = `italic ${colors.font}`;
    context.fillText("z", x, y);
    const width = context.measureText("z").width;
    context.font = colors.subscript;
    context.fillText("c", x + width + 0.5, y + 3);
  }
}

/** Round numbers for about `count` ticks between two ends. */
export function ticks(low, high, count) {
  const rough = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const spacing = [1, 2, 5, 10].map((digit) => digit * power).find((size) => size >= rough);
  const found = [];
  for (let i = Math.ceil(low / spacing); i * spacing <= high; i += 1) found.push(i * spacing);
  return found;
}

function asText(value) {
  return String(Number(value.toPrecision(6))).replace("-", "−");
}

function drawAxes(plane, colors, { xLabel, yLabel, xTicks }) {
  const { context } = plane;
  context.strokeStyle = colors.frame;
  context.lineWidth = 1;
  context.strokeRect(plane.left, plane.top, plane.width, plane.height);
  context.fillStyle = colors.text;
  context.font = colors.font;
  context.textAlign = "center";
  for (const x of xTicks) {
    plane.line(colors.frame, [[plane.px(x), plane.bottom], [plane.px(x), plane.bottom + 4]]);
    context.fillText(asText(x), plane.px(x), plane.bottom + 17);
  }
  context.textAlign = "right";
  for (const y of ticks(...plane.yRange, plane.height / 26)) {
    plane.line(colors.frame, [[plane.left - 4, plane.py(y)], [plane.left, plane.py(y)]]);
    context.fillText(asText(y), plane.left - 7, plane.py(y) + 4);
  }
  context.textAlign = "center";
  context.fillText(xLabel, plane.left + plane.width / 2, plane.bottom + 33);
  context.textAlign = "left";
  context.fillText(yLabel, plane.left - MARGIN.left + 4, plane.top - 8);
}

const DASHES = [6, 4]; // of z_c
const DOTS = [2, 3]; // of w*

/** What several panels show: the ground where BP acts, and the rest. */
function drawGround(plane, colors, parameters) {
  plane.clipped((context) => {
    if (parameters.bp) {
      const { low, high } = bpWindow(parameters);
      context.fillStyle = colors.window;
      context.fillRect(plane.left, plane.py(high), plane.width, plane.py(low) - plane.py(high));
    }
    plane.horizontal(colors.rest, restPoint(parameters), { width: 1.5, dash: DOTS });
  });
}

function drawCriticalLine(plane, colors, x) {
  if (isWithin(plane, x)) plane.vertical(colors.critical, x, { width: 1.5, dash: DASHES });
}

/** The name of that line, drawn last: the line of the chosen epoch must not run through it. */
function drawCriticalSymbol(plane, colors, x) {
  if (!isWithin(plane, x)) return;
  const roomForSymbol = 18;
  const right = plane.px(x) + 4;
  const place = right + roomForSymbol < plane.right ? right : plane.px(x) - roomForSymbol - 2;
  plane.criticalSymbol(colors, place, plane.top + 14);
}

function isWithin(plane, x) {
  return plane.shareOf(x) >= 0 && plane.shareOf(x) <= 1;
}

/** A canvas as sharp as the screen; gives its context in CSS pixels, cleared. */
function prepare(canvas) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return context;
}

/** The trajectory: w over the epochs. */
function drawTrajectory(canvas, view) {
  const { colors, parameters, run, range } = view;
  const plane = planeOfTrajectory(canvas, range);
  drawGround(plane, colors, parameters);
  plane.clipped((context) => {
    context.fillStyle = colors.csbp;
    for (let n = 0; n < EPOCHS; n += 1) {
      context.fillRect(plane.px(n) - 0.9, plane.py(run.w[n]) - 0.9, 1.8, 1.8);
    }
  });
  const critical = epochOf(criticalZ(parameters), parameters);
  const isReached = critical > 0 && criticalHolds(parameters);
  if (isReached) drawCriticalLine(plane, colors, critical);
  const xTicks = ticks(0, EPOCHS, plane.width / 90);
  drawAxes(plane, colors, { xLabel: "epoch (updates)", yLabel: "weight w (no unit)", xTicks });
  plane.vertical(colors.text, view.epoch, { width: 1.25 });
  if (isReached) drawCriticalSymbol(plane, colors, critical);
  plane.dot(colors.csbp, view.epoch, run.w[view.epoch], colors.ground);
}

function planeOfTrajectory(canvas, range) {
  return new Plane(canvas, { x: [0, EPOCHS], y: range });
}

/** The epoch at which a run passes a z; not finite where z never changes. */
function epochOf(z, { z0, beta }) {
  return Math.log(z / z0) / Math.log(beta);
}

const Z_RANGE = [12, 1]; // falling, as in a run
const Z_TICKS = [10, 8, 6, 5, 4, 3, 2, 1]; // with room for their labels in a narrow panel

/** The orbit diagram: the weights that last, over z, and where the run is. */
function drawOrbits(canvas, view) {
  const { colors, parameters, run, range } = view;
  const plane = planeOfOrbits(canvas, range);
  drawGround(plane, colors, parameters);
  plane.context.drawImage(view.picture, plane.left, plane.top, plane.width, plane.height);
  const critical = criticalZ(parameters);
  const holds = criticalHolds(parameters);
  if (holds) drawCriticalLine(plane, colors, critical);
  const xLabel = "strength z (no unit), falling as in a run";
  drawAxes(plane, colors, { xLabel, yLabel: "weight w (no unit)", xTicks: Z_TICKS });
  const z = Math.max(run.z[view.epoch], Z_RANGE[1]); // what lies further waits at the border
  plane.vertical(colors.text, z, { width: 1.25 });
  if (holds) drawCriticalSymbol(plane, colors, critical);
  plane.dot(colors.csbp, z, run.w[view.epoch], colors.ground);
}

function planeOfOrbits(canvas, range) {
  return new Plane(canvas, { x: Z_RANGE, y: range, log: true });
}

/** The points of an orbit diagram as a picture, darker where orbits come more often. */
function pictureOf(points, columns, rows, [low, high], color) {
  const counts = new Uint16Array(columns * rows);
  const perColumn = points.length / columns;
  const rowsPerUnit = rows / (high - low);
  for (let i = 0; i < points.length; i += 1) {
    const row = Math.floor((high - points[i]) * rowsPerUnit);
    const column = Math.floor(i / perColumn);
    if (row >= 0 && row < rows) counts[row * columns + column] += 1;
  }
  const picture = document.createElement("canvas");
  picture.width = columns;
  picture.height = rows;
  const context = picture.getContext("2d");
  const image = context.createImageData(columns, rows);
  const [red, green, blue] = componentsOf(color);
  const packed = new Uint32Array(image.data.buffer); // alpha, blue, green, red, on every machine
  for (let i = 0; i < counts.length; i += 1) {
    if (counts[i] === 0) continue;
    packed[i] = (OPACITIES[Math.min(counts[i], OPACITIES.length - 1)] << 24)
      | (blue << 16) | (green << 8) | red;
  }
  context.putImageData(image, 0, 0);
  return picture;
}

// Of a pixel, by how often orbits come there: seen at the first time, black after some.
const OPACITIES = Array.from({ length: 12 }, (_, count) => Math.min(255, 90 + 24 * count));

function componentsOf(color) {
  const value = Number.parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

const STAIRS = 16; // epochs that the staircase follows
const SAMPLES_PER_PIXEL = 3;
const JUMP = 8; // px between neighbouring samples: where a spike appears f jumps

/** The return map: the next w over w, and the staircase that a run climbs on it. */
function drawReturnMap(canvas, view) {
  const { colors, parameters, run, range, epoch } = view;
  const plane = new Plane(canvas, { x: range, y: range });
  const z = run.z[epoch];
  plane.clipped((context) => {
    if (parameters.bp) {
      const { low, high } = bpWindow(parameters);
      context.fillStyle = colors.window;
      context.fillRect(plane.px(low), plane.top, plane.px(high) - plane.px(low), plane.height);
    }
    plane.vertical(colors.rest, restPoint(parameters), { width: 1.5, dash: DOTS });
    plane.line(colors.frame, [[plane.left, plane.bottom], [plane.right, plane.top]]);
    drawCurve(plane, colors, (w) => step(w, z, parameters));
    drawStaircase(plane, colors, run.w[epoch], (w) => step(w, z, parameters));
  });
  const xTicks = ticks(...range, plane.width / 45);
  const labels = { xLabel: "w at one epoch", yLabel: "w at the next epoch" };
  drawAxes(plane, colors, { ...labels, xTicks });
}

function drawCurve(plane, colors, f) {
  const { context } = plane;
  const samples = Math.round(plane.width * SAMPLES_PER_PIXEL);
  context.strokeStyle = colors.text;
  context.lineWidth = 1.75;
  context.beginPath();
  let before = Infinity;
  for (let i = 0; i <= samples; i += 1) {
    const w = plane.xAt(i / samples);
    const y = plane.py(f(w));
    if (Math.abs(y - before) < JUMP) context.lineTo(plane.px(w), y);
    else context.moveTo(plane.px(w), y);
    before = y;
  }
  context.stroke();
}

function drawStaircase(plane, colors, start, f) {
  let w = start;
  for (let n = 0; n < STAIRS; n += 1) {
    const next = f(w);
    plane.context.globalAlpha = 1 - (0.75 * n) / STAIRS; // the nearest epochs stand out
    const from = n === 0 ? plane.bottom : plane.py(w);
    const corner = [plane.px(w), plane.py(next)];
    plane.line(colors.csbp, [[plane.px(w), from], corner, [plane.px(next), plane.py(next)]], {
      width: 1.5,
    });
    w = next;
  }
  plane.context.globalAlpha = 1;
  plane.dot(colors.csbp, start, f(start), colors.ground);
}

// ---------------------------------------------------------------------------------------------
// The page

const MARKUP = `
  <p class="intro">The neuron of the published figures is to fall silent. Back-propagation (BP) lowers its weight
    <i>w</i> while it fires; a chaotic loss of strength <i>z</i> pulls <i>w</i> to <i>w</i>*, so
    hard at first that every step overshoots. After each epoch <i>z</i> shrinks by the factor β:
    search becomes descent. Pick a case, drag a slider, or click into a panel to choose an
    epoch.</p>
  <div class="presets" role="group" aria-label="Cases"></div>
  <p class="notice" role="alert" hidden></p>
  <p class="note"></p>
  <div class="layout">
    <div class="run">
      <figure class="trajectory">
        <figcaption><b>What training does.</b> Each dot is the weight before an update.</figcaption>
        <canvas data-panel="trajectory" role="img"></canvas>
      </figure>
      <ul class="legend">
        <li><span class="dot"></span> this run</li>
        <li><span class="cursor-line"></span> the chosen epoch</li>
        <li class="of-bp"><span class="window"></span> weights at which BP acts</li>
        <li><span class="rest"></span> <i>w</i>*, rest of the chaotic loss</li>
        <li class="of-critical"><span class="critical"></span> <i>z</i><sub>c</sub>, right of it
          <i>w</i>* is stable</li>
        <li class="no-critical"><i>w</i>* lies where BP acts: <i>z</i><sub>c</sub> does not hold</li>
      </ul>
      <div class="controls" role="group" aria-label="Parameters"></div>
    </div>
    <div class="cursor">
      <button type="button" class="play">Play</button>
      <label><span class="name">epoch</span>
        <input type="range" name="epoch" min="0" max="${LAST_EPOCH}" step="1"></label>
      <output></output>
    </div>
    <p class="state"></p>
    <figure class="orbits">
      <figcaption><b>Where it could stay.</b> A point for each weight that runs from ${STARTS} starts
        still visit after ${LEFT_OUT} epochs at fixed <i>z</i>. <i>z</i><sub>0</sub> and β only say
        where in it the run is.</figcaption>
      <canvas data-panel="orbits" role="img"></canvas>
    </figure>
    <figure class="map">
      <figcaption><b>One epoch as a map.</b> The curve gives the next <i>w</i>; on the diagonal
        it stays. Stairs: ${STAIRS} epochs at this <i>z</i>.</figcaption>
      <canvas data-panel="map" role="img"></canvas>
    </figure>
  </div>
  <div class="command">
    <button type="button" class="copy">Copy the command</button>
    <code></code>
    <p class="copied" role="status"></p>
    <p>It does this run in PyTorch, in float32. Single dots of a burst, and the epoch in which the
      second one ends, differ: chaos multiplies every rounding (notebook 5). Where bursts begin, the
      branches and the rest point are the same.
      <span class="without-bp">A threshold of 1000 is never reached: without spikes there is no BP
      gradient, which the notebook has no switch for.</span></p>
  </div>`;

const COLOR_NAMES = [
  "ground", "text", "frame", "csbp", "rest", "critical", "window", "ink",
];

/** The explorer in an element; `whenMoved` is called with what a user has changed. */
class Explorer {
  constructor(element, parameters, whenMoved) {
    this.element = element;
    this.parameters = { ...PUBLISHED, ...checkedAll(parameters) };
    this.epoch = START.epoch;
    this.notice = ""; // what was wrong with the address, until something is moved
    this.whenMoved = whenMoved;
    this.remembered = new Map();
    this.scheduled = null;
    this.playing = null;
    this.leaving = new AbortController(); // takes all listeners away
    element.classList.add("csbp-explorer");
    element.innerHTML = MARKUP;
    this.addPresets();
    this.addControls();
    this.addCursor();
    this.addCommand();
    this.watch();
    this.redraw();
  }

  find(selector) {
    return this.element.querySelector(selector);
  }

  listen(target, event, react) {
    target.addEventListener(event, react, { signal: this.leaving.signal });
  }

  addPresets() {
    for (const preset of PRESETS) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = preset.name;
      this.listen(button, "click", () => {
        this.move({ ...preset.parameters, epoch: preset.epoch });
      });
      this.find(".presets").append(button);
    }
  }

  addControls() {
    for (const [name, slider] of Object.entries(SLIDERS)) {
      const row = document.createElement("div");
      row.className = "control";
      row.innerHTML = `<label><span class="name"><i>${slider.symbol}</i> ${slider.says}</span>
        <input type="range" name="${name}" min="${slider.min}" max="${slider.max}"
          step="${slider.step}"></label>
        <output></output>`;
      const input = row.querySelector("input");
      this.listen(input, "input", () => this.move({ [name]: Number(input.value) }));
      this.find(".controls").append(row);
    }
    const row = document.createElement("label");
    row.className = "switch";
    row.innerHTML = '<input type="checkbox" name="bp"> BP gradient acts';
    const input = row.querySelector("input");
    this.listen(input, "change", () => this.move({ bp: input.checked }));
    this.find(".controls").append(row);
  }

  addCursor() {
    const input = this.find("[name=epoch]");
    this.listen(input, "input", () => this.move({ epoch: Number(input.value) }));
    this.listen(this.find(".play"), "click", () => this.playOrPause());
    this.addPointer("trajectory", (share) => share * EPOCHS);
    this.addPointer("orbits", (share, canvas) => {
      return epochOf(planeOfOrbits(canvas, [0, 1]).xAt(share), this.parameters);
    });
  }

  /** Let a press or a drag in a panel choose the epoch. */
  addPointer(panel, epochAt) {
    const canvas = this.find(`[data-panel=${panel}]`);
    const choose = (event) => {
      if (event.buttons !== 1) return;
      const plane = planeOfTrajectory(canvas, [0, 1]);
      const share = (event.offsetX - plane.left) / plane.width;
      const epoch = Math.round(epochAt(Math.min(Math.max(share, 0), 1), canvas));
      if (Number.isFinite(epoch)) this.move({ epoch: Math.min(Math.max(epoch, 0), LAST_EPOCH) });
    };
    this.listen(canvas, "pointerdown", choose);
    this.listen(canvas, "pointermove", choose);
  }

  addCommand() {
    this.listen(this.find(".copy"), "click", async () => {
      const code = this.find(".command code");
      const said = this.find(".copied");
      try {
        await navigator.clipboard.writeText(code.textContent);
        said.textContent = "Copied.";
      } catch { // a browser may refuse, as for a page that is a file
        window.getSelection().selectAllChildren(code);
        said.textContent = "Selected: press Ctrl+C or ⌘C to copy.";
      }
    });
  }

  /** Draw again when size, theme or screen change. */
  watch() {
    this.sizes = new ResizeObserver(() => this.redrawSoon());
    this.sizes.observe(this.find(".layout"));
    const themes = new MutationObserver(() => this.redrawSoon());
    const attributeFilter = ["data-theme", "data-jp-theme-light"];
    themes.observe(document.body, { attributes: true, attributeFilter });
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    this.listen(dark, "change", () => this.redrawSoon());
    // Not by `listen`, whose listeners are gone before this event comes.
    this.leaving.signal.addEventListener("abort", () => {
      this.sizes.disconnect();
      themes.disconnect();
      clearInterval(this.playing);
      cancelAnimationFrame(this.scheduled);
    });
  }

  /** What a user does: change, tell, draw. */
  move(changes) {
    this.notice = "";
    this.set(changes);
    this.whenMoved(changes);
  }

  /** Change parameters or the epoch, and draw. */
  set(changes) {
    const { epoch = this.epoch, ...parameters } = checkedAll(changes);
    Object.assign(this.parameters, parameters);
    this.epoch = epoch;
    this.redrawSoon();
  }

  redrawSoon() {
    if (this.scheduled !== null) return;
    this.scheduled = requestAnimationFrame(() => {
      this.scheduled = null;
      this.redraw();
    });
  }

  playOrPause() {
    if (this.playing === null) {
      if (this.epoch === LAST_EPOCH) this.move({ epoch: 0 });
      const pause = 50; // ms; calm enough to follow
      const stride = 8; // epochs: cycles of 2, 4 and 8 stand still
      this.playing = setInterval(() => this.playOn(stride), pause);
    } else {
      this.pause();
    }
    this.redrawSoon();
  }

  playOn(stride) {
    const epoch = Math.min(this.epoch + stride, LAST_EPOCH);
    if (epoch === LAST_EPOCH) this.pause();
    this.move({ epoch });
  }

  pause() {
    clearInterval(this.playing);
    this.playing = null;
  }

  /** What `make` gives, made anew only if the key has changed. */
  remember(name, key, make) {
    const text = JSON.stringify(key);
    if (this.remembered.get(name)?.text !== text) {
      this.remembered.set(name, { text, value: make() });
    }
    return this.remembered.get(name).value;
  }

  /** Draw everything at once; returns the milliseconds that it took. */
  redraw() {
    const start = performance.now();
    if (this.find(".layout").clientWidth > 0) {
      this.element.toggleAttribute("data-dark", isDark());
      const view = this.view();
      this.drawPanels(view);
      this.showValues(view);
    } else {
      // Hidden, as JupyterLab does for a moment when its theme changes. Observed anew, it counts as
      // of no size, so that it is drawn once it is seen again.
      this.sizes.disconnect();
      this.sizes.observe(this.find(".layout"));
    }
    return performance.now() - start;
  }

  /** All that the panels show. */
  view() {
    const { parameters, epoch } = this;
    const canvas = this.find("[data-panel=orbits]");
    const ratio = window.devicePixelRatio || 1;
    const plane = planeOfOrbits(canvas, [0, 1]);
    const columns = Math.min(Math.round(plane.width * ratio), MOST_COLUMNS);
    const rows = Math.round(plane.height * ratio);
    const colors = this.colors();
    const { lr, I0, time_steps, rate_steps, bp } = parameters;
    const run = this.remember("run", parameters, () => anneal(parameters));
    const map = [lr, I0, time_steps, rate_steps, bp, columns];
    const points = this.remember("points", map, () => {
      const strengths = Array.from({ length: columns }, (_, i) => plane.xAt((i + 0.5) / columns));
      return orbitDiagram(strengths, parameters);
    });
    const range = this.remember("range", [parameters, columns], () => rangeOf(run.w, points));
    const picture = this.remember("picture", [map, rows, range, colors.ink], () => {
      return pictureOf(points, columns, rows, range, colors.ink);
    });
    return { colors, parameters, epoch, run, range, picture };
  }

  /** What the style sheet says: the colours by name, and the fonts of the panels. */
  colors() {
    const style = getComputedStyle(this.element);
    const valueOf = (name) => style.getPropertyValue(`--csbp-${name}`).trim();
    const colors = Object.fromEntries(COLOR_NAMES.map((name) => [name, valueOf(name)]));
    const font = `${FONT_SIZE} ${style.fontFamily}`;
    const subscript = `${SUBSCRIPT_SIZE} ${style.fontFamily}`;
    return { ...colors, font, subscript };
  }

  drawPanels(view) {
    const draws = { trajectory: drawTrajectory, orbits: drawOrbits, map: drawReturnMap };
    for (const [panel, draw] of Object.entries(draws)) {
      const canvas = this.find(`[data-panel=${panel}]`);
      prepare(canvas);
      draw(canvas, view);
    }
  }

  showValues(view) {
    const { parameters, epoch } = view;
    for (const [name, { digits }] of Object.entries(SLIDERS)) {
      const input = this.find(`[name=${name}]`);
      const text = shown(parameters[name], digits);
      input.value = parameters[name];
      input.setAttribute("aria-valuetext", text);
      input.closest(".control").querySelector("output").value = text;
    }
    this.find("[name=bp]").checked = parameters.bp;
    this.find(".of-bp").hidden = !parameters.bp;
    this.find(".without-bp").hidden = parameters.bp;
    this.find(".of-critical").hidden = !criticalHolds(parameters);
    this.find(".no-critical").hidden = criticalHolds(parameters);
    this.find("[name=epoch]").value = epoch;
    this.find(".cursor output").value = epoch;
    this.find(".play").textContent = this.playing === null ? "Play" : "Pause";
    this.find(".command code").textContent = command(parameters);
    this.showPreset(parameters);
    this.showState(view);
  }

  showPreset(parameters) {
    const preset = PRESETS.find((known) => toFragment(known.parameters) === toFragment(parameters));
    const buttons = this.element.querySelectorAll(".presets button");
    for (const button of buttons) {
      button.setAttribute("aria-pressed", String(button.textContent === preset?.name));
    }
    this.find(".note").textContent = preset?.says ?? "Parameters of your own.";
    this.find(".notice").textContent = this.notice;
    this.find(".notice").hidden = this.notice === "";
  }

  showState({ parameters, epoch, run }) {
    const [w, z] = [run.w[epoch], run.z[epoch]];
    const strength = `z = ${shown(z, 3)}${criticalInWords(parameters)}`;
    const where = `At epoch ${epoch}, ${strength} and w = ${shown(w, 3)}.`;
    const key = [parameters, epoch];
    const end = this.remember("end", key, () => attractorFrom(w, z, parameters));
    const text = `${where} Were z held there, ${inWords(end)}.`;
    this.find(".state").textContent = text;
    const weights = `the lowest weight is ${shown(Math.min(...run.w), 2)}, the highest ${
      shown(Math.max(...run.w), 2)}, the last ${shown(run.w[LAST_EPOCH], 3)}`;
    const labels = {
      trajectory: `Weight over ${EPOCHS} epochs: ${weights}.`,
      orbits: `Weights that last, over z from ${Z_RANGE.join(" to ")}, with a line at the chosen epoch. ${text}`,
      map: `The next weight over the weight, with a staircase from the chosen epoch. ${text}`,
    };
    for (const [panel, label] of Object.entries(labels)) {
      this.find(`[data-panel=${panel}]`).setAttribute("aria-label", label);
    }
  }
}

const MOST_COLUMNS = 700; // of the orbit diagram; a wider canvas stretches them

/** From the lowest to the highest weight that is shown, and a little more. */
function rangeOf(...weights) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of weights) {
    for (const w of values) {
      if (w < low) low = w;
      if (w > high) high = w;
    }
  }
  const space = 0.05 * (high - low);
  return [low - space, high + space];
}

function shown(value, digits) {
  return value.toFixed(digits).replace("-", "−");
}

/** z_c, as a remark on z; none where it does not hold. */
function criticalInWords(parameters) {
  if (!criticalHolds(parameters)) return "";
  return ` (critical: ${shown(criticalZ(parameters), 3)})`;
}

/** Where an orbit ends, as the end of a sentence. */
function inWords({ period, weights }) {
  if (period === 0) {
    return `the weight would not repeat within ${LONGEST_PERIOD} epochs: chaos, or a long cycle`;
  }
  if (period === 1) return `the weight would come to rest at ${shown(weights[0], 3)}`;
  return `the weight would end up repeating every ${period} epochs`;
}

/** Whether the page is dark: by furo's switch, by Jupyter's theme, or else by the system. */
function isDark() {
  const { theme, jpThemeLight } = document.body.dataset;
  if (theme === "dark" || jpThemeLight === "false") return true;
  if (theme === "light" || jpThemeLight === "true") return false;
  return window.matchMedia("(prefers-color-scheme: dark)").matches;
}

/**
 * Put the explorer into an element of a page; the address keeps the parameters and the epoch.
 *
 * `parameters` are those to start with, of the names in PUBLISHED, where the address gives none.
 * Returns the explorer: `.parameters`, `.set({z0: 5, epoch: 100})`, `.redraw()`.
 */
export function mount(element, parameters = {}) {
  const explorer = new Explorer(element, parameters, () => addressSoon());
  let waiting = null;
  const read = () => {
    if (!location.hash.includes("=")) return; // the name of a heading, or nothing
    const found = fromFragment(location.hash.slice(1));
    const refused = found.refused.join("; ");
    explorer.notice = refused === "" ? "" : `Not taken from the address: ${refused}.`;
    explorer.set({ ...START, ...parameters, ...found.parameters });
  };
  // A browser takes only some changes of the address per second.
  const addressSoon = () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => {
      const fragment = toFragment({ ...explorer.parameters, epoch: explorer.epoch });
      const page = location.href.split("#")[0];
      history.replaceState(null, "", fragment === "" ? page : `${page}#${fragment}`);
    }, 200);
  };
  read();
  explorer.listen(window, "hashchange", read);
  return explorer;
}

/** anywidget's: the explorer in an output of Jupyter, its parameters the model's traits. */
function render({ model, el }) {
  const names = [...Object.keys(PUBLISHED), "epoch"];
  const values = Object.fromEntries(names.map((name) => [name, model.get(name)]));
  const { epoch, ...parameters } = values;
  const explorer = new Explorer(el, parameters, (changes) => {
    for (const [name, value] of Object.entries(changes)) model.set(name, value);
    model.save_changes();
  });
  explorer.set({ epoch });
  for (const control of el.querySelectorAll("input, button")) {
    control.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes its keys for itself
  }
  const follow = names.map((name) => [
    `change:${name}`,
    () => explorer.set({ [name]: model.get(name) }),
  ]);
  for (const [event, react] of follow) model.on(event, react);
  return () => {
    for (const [event, react] of follow) model.off(event, react);
    explorer.leaving.abort();
  };
}

export default { render };
