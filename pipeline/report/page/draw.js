// A picture's labels and confidence, from the packed planes to a canvas.

const DATA = JSON.parse(document.getElementById("data").textContent);
const LEVELS = 255;
const HATCH = [0xff2b2b2b, 0xff575757]; // ignored pixels, as ABGR
const HATCH_PX = 3; // a power of two: stripes of 8 pixels
const FAINT = 0x00000000;
// Five colours of viridis (van der Walt and Smith, matplotlib), from unsure to sure.
const VIRIDIS = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];

const abgr = ([r, g, b]) => ((255 << 24) | (b << 16) | (g << 8) | r) >>> 0;
const CONFIDENCE_COLORS = Uint32Array.from({ length: 256 }, (_, level) => {
  const at = (level / LEVELS) * (VIRIDIS.length - 1);
  const k = Math.min(VIRIDIS.length - 2, Math.floor(at));
  return abgr(VIRIDIS[k].map((from, c) => Math.round(from + (VIRIDIS[k + 1][c] - from) * (at - k))));
});

async function unpack(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// What is drawn of a picture, unpacked once: `labels` a pixel, `levels` a cell, and the picture itself if it is there.
async function load(picture) {
  const [plane, levels] = await Promise.all([
    unpack(picture.labels),
    picture.confidence === null ? null : unpack(picture.confidence),
  ]);
  const labels = picture.wide ? new Uint16Array(plane.buffer) : plane;
  let image = null;
  if (picture.image !== null) {
    image = new Image();
    image.src = picture.image;
    await image.decode();
  }
  const loaded = { picture, labels, levels, image, width: picture.shown[0], height: picture.shown[1] };
  loaded.counts = countByLevel(loaded);
  return loaded;
}

const loading = new Map();
function loaded(number) {
  if (!loading.has(number)) loading.set(number, load(DATA.pictures[number]));
  return loading.get(number);
}

function levelAt(shown, x, y) {
  if (shown.levels === null) return null;
  const [columns, rows] = shown.picture.cells;
  return shown.levels[Math.floor((y * rows) / shown.height) * columns + Math.floor((x * columns) / shown.width)];
}

// The cell of each column of pixels, so that loops need no division.
function cellColumns(shown) {
  const columns = shown.picture.cells ? shown.picture.cells[0] : 1;
  return Uint16Array.from({ length: shown.width }, (_, x) => Math.floor((x * columns) / shown.width));
}

function eachPixel(shown, visit) {
  const across = cellColumns(shown);
  const [columns, rows] = shown.picture.cells || [1, 1];
  for (let y = 0, at = 0; y < shown.height; y++) {
    const row = Math.floor((y * rows) / shown.height) * columns;
    for (let x = 0; x < shown.width; x++, at++) {
      visit(at, shown.labels[at], shown.levels === null ? LEVELS : shown.levels[row + across[x]], x, y);
    }
  }
}

// Pixels that the labels do not ignore, by level.
function countByLevel(shown) {
  const counts = new Uint32Array(LEVELS + 1);
  eachPixel(shown, (_, label, level) => {
    if (!(label & 1)) counts[level]++;
  });
  return counts;
}

const lowestLevel = (threshold) => Math.ceil(threshold * LEVELS - 1e-9);

// The share of a picture's pixels that would be ignored.
function ignoredShare(shown, threshold) {
  let kept = 0;
  for (let level = lowestLevel(threshold); level <= LEVELS; level++) kept += shown.counts[level];
  return 1 - kept / (shown.width * shown.height);
}

function classColors(picture, only) {
  const classes = DATA.vocabularies[picture.vocabulary].classes;
  return Uint32Array.from(picture.codes, (code) =>
    code < 0 || (only !== null && code !== only) ? FAINT : abgr(classes[code].color),
  );
}

function labelLayer(shown, threshold, only) {
  const layer = new ImageData(shown.width, shown.height);
  const pixels = new Uint32Array(layer.data.buffer);
  const colors = classColors(shown.picture, only);
  const lowest = lowestLevel(threshold);
  eachPixel(shown, (at, label, level, x, y) => {
    const isIgnored = label & 1 || level < lowest;
    if (!isIgnored) pixels[at] = colors[label >> 1];
    else if (only === null || shown.picture.codes[label >> 1] === only) pixels[at] = HATCH[((x + y) >> HATCH_PX) & 1];
  });
  return layer;
}

function confidenceLayer(shown) {
  const layer = new ImageData(shown.width, shown.height);
  const pixels = new Uint32Array(layer.data.buffer);
  eachPixel(shown, (at, _, level) => {
    pixels[at] = CONFIDENCE_COLORS[level];
  });
  return layer;
}

// `how`: view (picture, labels, blend, confidence), opacity, threshold, and the position of the only class shown or null.
function draw(canvas, shown, how) {
  canvas.width = shown.width;
  canvas.height = shown.height;
  const context = canvas.getContext("2d");
  if (how.view === "labels") return void context.putImageData(labelLayer(shown, how.threshold, how.only), 0, 0);
  if (how.view === "confidence" && shown.levels !== null) return void context.putImageData(confidenceLayer(shown), 0, 0);
  if (shown.image !== null) context.drawImage(shown.image, 0, 0);
  if (how.view !== "blend") return;
  const over = document.createElement("canvas");
  [over.width, over.height] = [shown.width, shown.height];
  over.getContext("2d").putImageData(labelLayer(shown, how.threshold, how.only), 0, 0);
  context.globalAlpha = shown.image === null ? 1 : how.opacity;
  context.drawImage(over, 0, 0);
  context.globalAlpha = 1;
}
