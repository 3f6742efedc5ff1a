// Sheets, the page of a class, the table of classes, and what the threshold would do.

const SHEET_NOTES = {
  random: "Drawn by lot, so they stand for all.",
  unsure: "With the lowest mean confidence.",
  rare: "The largest example of each class that few pictures have, the rarest first.",
  ignored: "With the largest share of ignored pixels: distractors took them, or no class reached its threshold.",
};

function showSheet(key) {
  for (const tab of document.querySelectorAll("[data-sheet]")) tab.setAttribute("aria-selected", tab.dataset.sheet === key);
  by("sheet-note").textContent = SHEET_NOTES[key];
  fill(by("sheet"), DATA.sheets[key]);
}

for (const tab of document.querySelectorAll("[data-sheet]")) tab.addEventListener("click", () => showSheet(tab.dataset.sheet));

// The share of a class's pixels below the threshold, from its histogram.
function lostShare(found, threshold) {
  const total = found.histogram.reduce((sum, n) => sum + n, 0);
  const below = Math.round(threshold * found.histogram.length);
  return total ? found.histogram.slice(0, below).reduce((sum, n) => sum + n, 0) / total : null;
}

async function sayThreshold() {
  by("threshold-value").textContent = state.threshold.toFixed(2);
  for (const head of document.querySelectorAll(".under")) head.textContent = `Under ${state.threshold.toFixed(2)}`;
  for (const row of document.querySelectorAll("[data-class]")) {
    const [words, position] = row.dataset.class.split("/");
    const share = lostShare(DATA.vocabularies[words].classes[position], state.threshold);
    const cell = row.querySelector(".lost");
    cell.dataset.value = share ?? -1;
    cell.textContent = share === null ? "" : percent(share);
  }
  const some = await Promise.all(DATA.sheets.random.map(loaded));
  const share = (threshold) => some.reduce((sum, shown) => sum + ignoredShare(shown, threshold), 0) / some.length;
  const many = some.length === 1 ? "one random picture" : `${some.length} random pictures`;
  by("threshold-note").textContent = state.threshold > 0
    ? `With this threshold ${percent(share(state.threshold))} of the ${many} would be ignored; now it is ${percent(share(0))}.`
    : `Now ${percent(share(0))} of the ${many} is ignored; move the threshold to see what would be.`;
}

for (const radio of document.querySelectorAll("input[name=view]")) {
  radio.addEventListener("change", () => {
    const wasAll = state.view === "all";
    state.view = radio.value;
    by("opacity-row").classList.toggle("off", !["blend", "all"].includes(state.view));
    by("key-ignored").hidden = ["picture", "confidence"].includes(state.view);
    by("key-confidence").hidden = state.view !== "confidence";
    if (wasAll || state.view === "all") for (const grid of [by("sheet"), by("class-sheet")]) fill(grid, grid.numbers ?? []);
    else redrawAll();
  });
}
document.querySelector(".ramp").style.background = `linear-gradient(to right, ${VIRIDIS.map(cssColor).join(", ")})`;
by("opacity").addEventListener("input", () => {
  state.opacity = Number(by("opacity").value);
  redrawAll();
});
by("threshold").addEventListener("input", () => {
  state.threshold = Number(by("threshold").value);
  redrawAll();
  sayThreshold();
  if (classShown) sayClassLost();
});
by("only").addEventListener("change", redrawAll);

// The page of a class.
let classShown = null;

function figure(name, value, note) {
  return element("div", {}, element("dt", { textContent: name }), element("dd", { textContent: value }),
    element("dd", { className: "small", textContent: note }));
}

function showClass(wordsIndex, id) {
  const words = DATA.vocabularies[wordsIndex];
  const position = words?.classes.findIndex((each) => each.id === id) ?? -1;
  if (position < 0) return showOverview("classes");
  const found = words.classes[position];
  classShown = found;
  state.only = position;
  const swatch = element("i", { className: "swatch" });
  swatch.style.background = cssColor(found.color);
  by("class-name").replaceChildren(swatch, found.name);
  by("class-about").textContent = found.about;
  by("class-figures").replaceChildren(...found.figures.map((each) => figure(...each)));
  by("class-confidence").hidden = found.histogram.every((n) => n === 0);
  drawHistogram(found.histogram);
  sayClassLost();
  const numbers = DATA.pictures.flatMap((picture, number) =>
    picture.vocabulary === wordsIndex && picture.classes.some(([each]) => each === position) ? [number] : []);
  const share = (number) => DATA.pictures[number].classes.find(([each]) => each === position)[1];
  numbers.sort((a, b) => share(b) - share(a));
  const all = found.pictures.toLocaleString("en");
  by("class-pictures-title").textContent = numbers.length ? `Pictures: ${numbers.length} of ${all}, the largest share first`
    : found.pictures ? `Pictures: none of its ${all} is in this report` : "No picture has it";
  const n = words.classes.length;
  by("class-before").href = `#class/${wordsIndex}/${words.classes[(position + n - 1) % n].id}`;
  by("class-after").href = `#class/${wordsIndex}/${words.classes[(position + 1) % n].id}`;
  open("class", "place-class");
  if (!numbers.length) by("toolbar").hidden = true;
  fill(by("class-sheet"), numbers);
  scrollTo(0, 0);
}

function drawHistogram(histogram) {
  const bars = [];
  for (let k = 0; k < histogram.length; k += 2) bars.push(histogram[k] + histogram[k + 1]);
  const highest = Math.max(...bars, 1);
  by("class-histogram").setAttribute("aria-label", "Pixels by confidence");
  by("class-histogram").replaceChildren(...bars.map((n, k) => {
    const bar = element("i", { title: `${(2 * k) / 100} to ${(2 * k + 2) / 100}` });
    bar.style.height = `${n > 0 ? Math.max(2, (100 * n) / highest) : 0}%`;
    return bar;
  }));
}

function sayClassLost() {
  [...by("class-histogram").children].forEach((bar, k) => bar.classList.toggle("below", (2 * k + 1) / 100 < state.threshold));
  const share = lostShare(classShown, state.threshold);
  by("class-lost").textContent = share === null ? ""
    : `${percent(share)} of its pixels have less confidence than the threshold, ${state.threshold.toFixed(2)}. Estimated from percentiles of the pictures.`;
}

function open(view, place) {
  by("overview").hidden = view === "class";
  by("class-view").hidden = view !== "class";
  by("only-row").hidden = view !== "class";
  by(place)?.append(by("toolbar"));
  by("toolbar").hidden = DATA.pictures.length === 0;
}

function showOverview(anchor) {
  classShown = null;
  state.only = null;
  open("overview", "place-overview");
  redrawAll();
  if (anchor) by(anchor)?.scrollIntoView();
}

function route() {
  const [view, words, id] = location.hash.slice(1).split("/");
  if (view === "class") showClass(Number(words), Number(id));
  else showOverview(view);
}

// The table of classes.
for (const head of document.querySelectorAll("th[data-sort] button")) {
  head.addEventListener("click", () => {
    const cell = head.parentElement;
    const table = cell.closest("table");
    const isText = cell.dataset.sort === "text";
    const isDescending = cell.hasAttribute("aria-sort") ? cell.getAttribute("aria-sort") === "ascending" : !isText;
    for (const each of table.querySelectorAll("th")) each.removeAttribute("aria-sort");
    cell.setAttribute("aria-sort", isDescending ? "descending" : "ascending");
    const value = (row) => row.cells[cell.cellIndex].dataset.value;
    const order = isText ? (a, b) => value(a).localeCompare(value(b)) : (a, b) => value(a) - value(b);
    const rows = [...table.tBodies[0].rows].sort((a, b) => (isDescending ? order(b, a) : order(a, b)));
    table.tBodies[0].append(...rows);
  });
}
by("find-class").addEventListener("input", () => {
  const sought = by("find-class").value.trim().toLowerCase();
  const rows = [...document.querySelectorAll("[data-class]")];
  for (const row of rows) row.hidden = !row.cells[0].dataset.value.toLowerCase().includes(sought);
  by("no-class").hidden = rows.some((row) => !row.hidden);
});

addEventListener("hashchange", route);
// On paper all pictures can be seen; the random ones are loaded by then, and drawn before the printer looks.
addEventListener("beforeprint", () => document.querySelectorAll("canvas").forEach((canvas) => void redraw(canvas)));
if (DATA.pictures.length) {
  showSheet("random");
  sayThreshold();
}
route();
