// Forms that change something, beyond what api.js does for all of them: parts that are there or not,
// sending only what is different, and what to say when somebody else was faster.
"use strict";

// --- parts of a form that are there together or not at all ------------------------------------------

function settlePart(part) {
  const there = part.querySelector(".part-switch").checked;
  part.classList.toggle("absent", !there);
  for (const field of part.querySelectorAll("input, select, textarea")) {
    if (field.matches(".part-switch")) continue;
    const isNull = field.type === "hidden" && field.parentElement === part;
    field.disabled = isNull ? there : !there;
  }
}

document.addEventListener("change", (event) => {
  if (event.target.matches(".part-switch")) settlePart(event.target.closest("[data-optional]"));
  if (event.target.matches("select[data-toggles]")) settleToggle(event.target);
  if (event.target.matches("select[data-collects]")) collect(event.target);
  if (event.target.matches("input[data-reads]")) read(event.target);
  if (event.target.matches("select[data-submits]")) event.target.form.requestSubmit();
});

// Whoever chooses "all" chooses no branch.
function settleToggle(select) {
  const field = select.form.elements.namedItem(select.dataset.toggles);
  field.disabled = select.value === "all";
}

// Several choices as one value: the list of them, or null for none.
function collect(select) {
  const chosen = [...select.selectedOptions].map((option) => option.value);
  document.getElementById(select.dataset.collects).value = JSON.stringify(chosen.length ? chosen : null);
}

// A file as base64, in the field that is sent.
function read(input) {
  const [file] = input.files;
  if (!file) return;
  const reader = new FileReader();
  reader.addEventListener("load", () => {
    document.getElementById(input.dataset.reads).value = reader.result.replace(/^[^,]*,/, "");
    troupe.notify(`${file.name} is chosen; save to use it.`);
  });
  reader.readAsDataURL(file);
}

document.addEventListener("click", (event) => {
  const clearer = event.target.closest("[data-clears]");
  if (!clearer) return;
  document.getElementById(clearer.dataset.clears).value = "";
  troupe.notify("It is taken away as soon as you save.");
});

// --- sending only what is different ------------------------------------------------------------------

function changesOf(form) {
  return [...form.elements].filter(
    (field) => field.name && field.type !== "submit" && field.type !== "hidden" && !field.disabled
      && troupe.differs(field),
  );
}

document.addEventListener("input", (event) => {
  const form = event.target.closest("form[data-changed-only]");
  const note = form?.querySelector(".changed-note");
  if (!note) return;
  const count = changesOf(form).length;
  note.textContent = count ? `${count} ${count === 1 ? "change is" : "changes are"} not saved yet.` : "";
});

// --- what went wrong -----------------------------------------------------------------------------------

const FASTER = "Somebody else has changed this since you opened it. Nothing was overwritten, and what "
  + "you have filled in is still here. ";

document.addEventListener("api:failed", (event) => {
  const problem = event.detail;
  const form = event.target.closest("form");
  if (problem.status === 412 || problem.status === 428) {
    const box = form?.querySelector(".form-error");
    if (!box) {
      event.preventDefault();
      troupe.notify(FASTER, { bad: true });
      troupe.refresh();
      return;
    }
    event.preventDefault();
    const again = document.createElement("button");
    again.type = "button";
    again.className = "small";
    again.textContent = "Load what is there now";
    again.addEventListener("click", () => troupe.refresh());
    box.replaceChildren(FASTER, again);
    box.hidden = false;
    box.scrollIntoView({ block: "nearest" });
    again.focus();
    return;
  }
  // A pattern is no explanation; the field has a better one.
  for (const error of problem.errors) {
    const name = (error.pointer || "").replace(/^[/?]/, "").replaceAll("/", ".");
    const field = form?.elements.namedItem(name);
    if (field?.dataset?.wrong && /pattern/i.test(error.message)) error.message = field.dataset.wrong;
    else if (/^string should have at least 1 /i.test(error.message)) error.message = "Fill this in.";
  }
});

// --- what cannot be undone is typed first ---------------------------------------------------------------

function settleTyped(field) {
  const wanted = field.dataset.mustBe;
  field.setCustomValidity(field.value === wanted ? "" : `Type ${wanted} to confirm.`);
}

document.addEventListener("input", (event) => {
  if (event.target.matches("input[data-must-be]")) settleTyped(event.target);
});

function settleAllTyped() {
  for (const field of document.querySelectorAll("input[data-must-be]")) settleTyped(field);
}
document.addEventListener("page:shown", settleAllTyped);
settleAllTyped();

// --- what a trial has found -------------------------------------------------------------------------------

function element(tag, className, ...content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...content);
  return made;
}

function stepOf({ name, ok, message }) {
  return element(
    "li", ok ? "good" : "bad",
    element("span", "visually-hidden", ok ? "Went well: " : "Failed: "),
    element("b", "", name[0].toUpperCase() + name.slice(1)), element("span", "", message),
  );
}

document.addEventListener("api:done", (event) => {
  const { showsTrial } = event.target.dataset;
  if (!showsTrial) return;
  const { works, message, steps } = event.detail.body;
  const verdict = element(
    "p", `verdict ${works ? "good" : "bad"}`,
    element("b", "", works ? "Works." : "Does not work."), " ", works ? message : "",
  );
  document.querySelector(showsTrial).replaceChildren(
    verdict, element("ol", "trial-steps", ...steps.map(stepOf)),
  );
});

// --- secrets that are shown once --------------------------------------------------------------------

document.addEventListener("api:done", (event) => {
  const shows = event.target.dataset.showsSecret;
  if (!shows) return;
  const [path, where] = shows.split(" ");
  const secret = event.detail.body[path];
  if (!secret) {
    const { goto } = event.target.dataset;
    if (goto) location.assign(goto);
    else troupe.refresh();
    return;
  }
  const place = document.querySelector(where);
  place.querySelector("code").textContent = secret;
  place.hidden = false;
  place.scrollIntoView({ block: "center" });
  place.querySelector("button").focus();
  if (event.target.tagName === "FORM") event.target.reset();
});

document.addEventListener("click", async (event) => {
  const copier = event.target.closest("[data-copies]");
  if (!copier) return;
  const text = document.querySelector(copier.dataset.copies).textContent;
  try {
    await navigator.clipboard.writeText(text);
    troupe.notify("Copied.");
  } catch {
    getSelection().selectAllChildren(document.querySelector(copier.dataset.copies));
    troupe.notify("Press Ctrl+C to copy what is selected.");
  }
});

document.addEventListener("page:shown", () => {
  for (const part of document.querySelectorAll("[data-optional]")) settlePart(part);
});
for (const part of document.querySelectorAll("[data-optional]")) settlePart(part);
