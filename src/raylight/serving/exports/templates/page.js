// Runs the model on pictures of any size and decides as `raylight predict` does.
const SHOWN = 10; // classes at most, the most probable first
const facts = JSON.parse(document.getElementById("metadata").textContent);
const names = facts.class_names;
const status = document.getElementById("status");
const input = document.getElementById("files");

async function unpacked(id) {
  const element = document.getElementById(id);
  const text = atob(element.textContent);
  element.remove(); // some ten megabytes
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function loaded() {
  const [script, binary, model] = await Promise.all(["runtime-script", "runtime-binary", "model"].map(unpacked));
  const address = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
  const ort = await import(address);
  URL.revokeObjectURL(address);
  // Threads need headers that neither a disk nor every host sends.
  Object.assign(ort.env.wasm, { wasmBinary: binary.buffer, numThreads: 1, proxy: false });
  const session = await ort.InferenceSession.create(model, { executionProviders: ["wasm"] });
  return { ort, session };
}

// RGB, 0 to 255, upright, transparency on white, colour profiles ignored. Of 16 bits a canvas keeps the upper 8, unlike a run.
async function decoded(file) {
  const bitmap = await createImageBitmap(file, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, canvas.width, canvas.height).data;
  const pixels = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4) {
    pixels[to++] = rgba[from];
    pixels[to++] = rgba[from + 1];
    pixels[to++] = rgba[from + 2];
  }
  return { pixels, height: canvas.height, width: canvas.width };
}

// As raylight.evaluation.predictions.decide: a tie goes to the negative class, or to the first of several.
function decided(probabilities) {
  if (names.length !== 2) return probabilities.indexOf(Math.max(...probabilities));
  const positive = names.indexOf(facts.positive_class);
  return probabilities[positive] > (facts.threshold ?? 0.5) ? positive : 1 - positive;
}

// As raylight.evaluation.abstention.confidence_of.
function confidence(probabilities) {
  if (names.length !== 2) return Math.max(...probabilities);
  const edge = 1e-12;
  const logit = (p) => Math.log(p / (1 - p));
  const clipped = (p) => logit(Math.min(Math.max(p, edge), 1 - edge));
  const apart = clipped(probabilities[names.indexOf(facts.positive_class)]) - clipped(facts.threshold ?? 0.5);
  return 1 / (1 + Math.exp(-Math.abs(apart)));
}

// As Predictor.refusals: why a picture gets no class, else null.
function refusal(probabilities, distance) {
  if ("unknown" in facts && distance > facts.unknown) return "unlike all training images";
  if ("abstain" in facts && !(facts.abstain !== null && confidence(probabilities) >= facts.abstain)) return "not sure";
  return null;
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;

function made(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function bars(probabilities) {
  const table = document.createElement("table");
  const order = names.map((_, k) => k).sort((a, b) => probabilities[b] - probabilities[a]);
  for (const k of order.slice(0, SHOWN)) {
    const row = table.insertRow();
    const head = made("th", names[k]);
    head.scope = "row";
    row.append(head);
    const scale = made("div", "", "scale");
    const bar = document.createElement("i");
    bar.style.width = `${100 * probabilities[k]}%`;
    scale.append(bar);
    if (facts.threshold !== null && names[k] === facts.positive_class) {
      const mark = document.createElement("b");
      mark.style.left = `${100 * facts.threshold}%`;
      mark.title = "decision threshold";
      scale.append(mark);
    }
    row.insertCell().append(scale);
    const number = row.insertCell();
    number.className = "number";
    number.textContent = percent(probabilities[k]);
  }
  return table;
}

// The pixels that the network sees.
function view(pixels) {
  const [, height, width] = pixels.dims;
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", "the picture as the network sees it");
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  for (let from = 0, to = 0; from < pixels.data.length; from += 3, to += 4) {
    image.data.set([pixels.data[from], pixels.data[from + 1], pixels.data[from + 2], 255], to);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

async function result({ ort, session }, file) {
  const { pixels, height, width } = await decoded(file);
  const found = await session.run({ images: new ort.Tensor("uint8", pixels, [1, height, width, 3]) });
  const probabilities = Array.from(found.probabilities.data);
  const refused = refusal(probabilities, found.distance?.data[0]);
  const given = decided(probabilities);
  const card = made("section", "", "result");
  card.dataset.file = file.name;
  card.dataset.probabilities = JSON.stringify(probabilities);
  card.dataset.predicted = refused ? "" : names[given];
  const words = document.createElement("div");
  const predicted = made("p", refused ?? `${names[given]} `, "predicted");
  if (!refused) predicted.append(made("span", percent(probabilities[given])));
  words.append(made("h2", file.name), predicted, bars(probabilities));
  if (names.length > SHOWN) words.append(made("p", `and ${names.length - SHOWN} less probable classes`, "soft"));
  card.append(view(found.pixels), words);
  return card;
}

function problem(file, text) {
  const card = made("section", "", "result problem");
  card.dataset.file = file.name;
  card.append(made("h2", file.name), made("p", text));
  return card;
}

const painted = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));

async function predict(engine, files) {
  input.disabled = true;
  const results = document.getElementById("results");
  let failed = 0;
  for (const [k, file] of files.entries()) {
    status.textContent = `Picture ${k + 1} of ${files.length} …`;
    await painted();
    let card;
    try {
      card = await result(engine, file);
    } catch (error) {
      failed += 1;
      const unread = error instanceof DOMException;
      card = problem(file, unread ? "The browser can't read this file as a picture." : `It can't be computed: ${error.message ?? error}`);
    }
    results.prepend(card);
  }
  status.textContent = `Done: ${files.length - failed} of ${files.length}.`;
  input.disabled = false;
  input.value = "";
}

try {
  const engine = await loaded();
  const drop = document.getElementById("drop");
  input.onchange = () => predict(engine, [...input.files]);
  for (const kind of ["dragover", "dragleave", "drop"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && !input.disabled && event.dataTransfer.files.length) predict(engine, [...event.dataTransfer.files]);
    });
  }
  input.disabled = false;
  status.textContent = "Ready.";
} catch (error) {
  status.textContent = `The model can't run in this browser: ${error.message ?? error}`;
  status.className = "problem";
}
