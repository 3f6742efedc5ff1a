// Cards, what the pointer shows, the toolbar, and one picture in large.

const by = (id) => document.getElementById(id);
const percent = (share) => (share > 0 && share < 0.0005 ? "<0.1%" : `${(100 * share).toFixed(1)}%`);
const state = { view: "blend", opacity: 0.55, threshold: 0, only: null };

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

const how = (view) => ({ ...state, view, only: by("only").checked ? state.only : null });

// A canvas that redraws itself when something of the state changes, as long as it can be seen.
const visible = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!target.isConnected || !isIntersecting) visible.delete(target);
    else {
      visible.add(target);
      redraw(target);
    }
  }
}, { rootMargin: "200px" });

function pictureCanvas(number, view) {
  const canvas = element("canvas", { width: 4, height: 3 });
  Object.assign(canvas, { number, fixedView: view });
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `${DATA.pictures[number].id}, ${view || "as chosen above"}`);
  canvas.addEventListener("pointermove", (event) => void point(canvas, event));
  canvas.addEventListener("pointerleave", hideTooltip);
  watcher.observe(canvas);
  return canvas;
}

async function redraw(canvas) {
  const shown = await loaded(canvas.number);
  draw(canvas, shown, how(canvas.fixedView || state.view));
  canvas.dataset.drawn = canvas.fixedView || state.view;
  const line = canvas.closest(".card, dialog")?.querySelector(".ignored");
  const share = state.threshold > 0 ? ignoredShare(shown, state.threshold) : shown.picture.ignored_fraction;
  if (line) line.textContent = `${percent(share)} ignored`;
}

let frame = 0;
function redrawAll() {
  cancelAnimationFrame(frame);
  frame = requestAnimationFrame(() => {
    for (const canvas of visible) canvas.isConnected ? redraw(canvas) : visible.delete(canvas);
  });
}

// The picture fills its canvas like `object-fit: contain`; the pixel under the pointer, or null beside the picture.
function pixelAt(canvas, shown, event) {
  const box = canvas.getBoundingClientRect();
  const scale = Math.min(box.width / shown.width, box.height / shown.height);
  const x = Math.floor((event.clientX - box.left - (box.width - scale * shown.width) / 2) / scale);
  const y = Math.floor((event.clientY - box.top - (box.height - scale * shown.height) / 2) / scale);
  return x >= 0 && y >= 0 && x < shown.width && y < shown.height ? [x, y] : null;
}

async function point(canvas, event) {
  const shown = await loaded(canvas.number);
  const at = pixelAt(canvas, shown, event);
  if (at === null) return hideTooltip();
  const label = shown.labels[at[1] * shown.width + at[0]];
  const level = levelAt(shown, ...at);
  const words = DATA.vocabularies[shown.picture.vocabulary];
  const code = shown.picture.codes[label >> 1];
  const isClass = code >= 0;
  const name = isClass ? words.classes[code].name : words.distractors[-1 - code] ?? "nothing";
  const swatch = element("i", { className: "swatch" });
  swatch.style.background = isClass ? cssColor(words.classes[code].color) : "transparent";
  const parts = [swatch, element("b", { textContent: name })];
  if (level !== null) parts.push(element("span", { textContent: (level / LEVELS).toFixed(2) }));
  if (label & 1) parts.push(element("em", { textContent: isClass ? "ignored" : "distractor, ignored" }));
  else if (level !== null && level < lowestLevel(state.threshold)) parts.push(element("em", { textContent: "would be ignored" }));
  const tooltip = by("tooltip");
  tooltip.replaceChildren(...parts);
  tooltip.hidden = false;
  (by("viewer").open ? by("viewer") : document.body).append(tooltip); // a dialog lies above everything outside of it
  const right = Math.min(event.clientX + 14, innerWidth - tooltip.offsetWidth - 8);
  const below = event.clientY + 18 + tooltip.offsetHeight > innerHeight ? event.clientY - tooltip.offsetHeight - 10 : event.clientY + 18;
  tooltip.style.transform = `translate(${Math.max(8, right)}px, ${below}px)`;
}

function hideTooltip() {
  by("tooltip").hidden = true;
}

const cssColor = ([r, g, b]) => `rgb(${r} ${g} ${b})`;
const PANELS = ["picture", "labels", "blend"];

function card(number, numbers) {
  const picture = DATA.pictures[number];
  const views = state.view === "all" ? PANELS : [null];
  const open = element("button", { type: "button", className: "frame", title: "Look at it in large" });
  open.append(...views.map((view) => pictureCanvas(number, view)));
  open.addEventListener("click", () => showViewer(number, numbers));
  const caption = element("figcaption", {}, element("span", { className: "name", textContent: picture.id, title: picture.id }));
  if (picture.confidence_mean !== null)
    caption.append(element("span", { className: "small", textContent: `confidence ${picture.confidence_mean.toFixed(2)}` }));
  caption.append(element("span", { className: "small ignored", textContent: `${percent(picture.ignored_fraction)} ignored` }));
  if (picture.corrected) caption.append(element("span", { className: "small", textContent: "corrected by a person" }));
  if (picture.note) caption.append(element("span", { className: "small note", textContent: picture.note }));
  return element("figure", { className: views.length > 1 ? "card three" : "card" }, open, caption);
}

function fill(grid, numbers) {
  grid.numbers = numbers;
  grid.classList.toggle("all", state.view === "all");
  grid.replaceChildren(...numbers.map((number) => card(number, numbers)));
}

// One picture in large: picture, labels and blend, and what is in it.
let viewed = null;
function showViewer(number, numbers) {
  const picture = DATA.pictures[number];
  const words = DATA.vocabularies[picture.vocabulary];
  viewed = { number, numbers };
  by("viewer-title").textContent = picture.id;
  const confidence = picture.confidence_mean === null ? "" : `, mean confidence ${picture.confidence_mean.toFixed(3)}`;
  by("viewer-about").replaceChildren(
    `${picture.size[0]} × ${picture.size[1]} pixels${confidence}, `,
    element("span", { className: "ignored", textContent: `${percent(picture.ignored_fraction)} ignored` }),
    ` · ${picture.note ?? picture.uri}`);
  const stored = state.threshold > 0 ? ", without the threshold set here" : "";
  const means = picture.confidence === null ? "" : " and their mean confidence"; // masks by people have none
  by("viewer-note").textContent = `Classes, with their share of the picture${means}${stored}:`;
  const views = state.view === "confidence" && picture.confidence !== null ? [...PANELS, "confidence"] : PANELS;
  by("viewer-panels").replaceChildren(...views.map((view) => pictureCanvas(number, view)));
  by("viewer-legend").replaceChildren(...picture.classes.map(([position, fraction, mean]) => {
    const swatch = element("i", { className: "swatch" });
    swatch.style.background = cssColor(words.classes[position].color);
    const link = element("a", { href: `#class/${picture.vocabulary}/${words.classes[position].id}` }, swatch, words.classes[position].name);
    link.addEventListener("click", () => by("viewer").close());
    return element("li", {}, link, element("span", { className: "small", textContent: mean === null ? percent(fraction) : `${percent(fraction)}, ${mean.toFixed(2)}` }));
  }));
  if (!by("viewer").open) by("viewer").showModal();
}

function turn(step) {
  const { number, numbers } = viewed;
  showViewer(numbers[(numbers.indexOf(number) + step + numbers.length) % numbers.length], numbers);
}

by("viewer-before").addEventListener("click", () => turn(-1));
by("viewer-after").addEventListener("click", () => turn(1));
by("viewer-close").addEventListener("click", () => by("viewer").close());
by("viewer").addEventListener("close", () => {
  hideTooltip();
  document.body.append(by("tooltip"));
});
by("viewer").addEventListener("click", (event) => {
  if (event.target === by("viewer")) by("viewer").close();
});
by("viewer").addEventListener("keydown", (event) => {
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (step) turn(step);
});
