// What every page can do beyond being read: move without reloading, answer to keys, remember the
// appearance. Everything hangs on the document, since the body's content is exchanged.
"use strict";

// --- moving between pages ------------------------------------------------------------------------

const root = document.documentElement;
let waiting = 0;

document.addEventListener("htmx:beforeRequest", () => {
  waiting += 1;
  root.classList.add("waiting");
});
document.addEventListener("htmx:afterRequest", () => {
  waiting = Math.max(waiting - 1, 0);
  if (!waiting) root.classList.remove("waiting");
});

// A request that ended at the login of another origin cannot be followed from here; a person can.
document.addEventListener("htmx:sendError", async (event) => {
  const path = event.detail.pathInfo.finalRequestPath;
  try {
    const answer = await fetch(path, { redirect: "manual", headers: { Accept: "text/html" } });
    if (answer.type === "opaqueredirect") location.assign(path);
  } catch {
    troupe.notify("Troupe cannot be reached at the moment. What you see stays as it was.", { bad: true });
  }
});

// --- forms that choose what is shown -----------------------------------------------------------

// A choice by pointer is shown at once. One by arrow keys may be only passing by: then the button
// comes back, and waits.
let byKey = null;
document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLSelectElement) byKey = event.target;
});
document.addEventListener("pointerdown", () => { byKey = null; });
document.addEventListener("change", (event) => {
  const form = event.target.closest("form.chooser");
  if (form && event.target instanceof HTMLSelectElement) {
    if (byKey === event.target) form.classList.add("pending");
    else form.requestSubmit();
  }
  if (event.target.id === "start_date") orderDates();
});

function orderDates() {
  const start = document.getElementById("start_date");
  const end = document.getElementById("end_date");
  if (start && end) end.min = start.value || start.min;
}

// A search shows what it finds while one types.
let typed = 0;
document.addEventListener("input", (event) => {
  if (!event.target.matches("input[data-live]")) return;
  clearTimeout(typed);
  const form = event.target.form;
  typed = setTimeout(() => form.isConnected && form.requestSubmit(), 250);
});

// --- appearance ----------------------------------------------------------------------------------

function appearance(chosen) {
  if (chosen === "auto") delete root.dataset.theme;
  else root.dataset.theme = chosen;
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // It holds until the page is left.
  }
  markAppearance();
}

function markAppearance() {
  const chosen = root.dataset.theme || "auto";
  for (const button of document.querySelectorAll("button[data-theme]")) {
    button.setAttribute("aria-pressed", String(button.dataset.theme === chosen));
  }
}

function isDark() {
  return (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
}

document.addEventListener("click", (event) => {
  const theme = event.target.closest("button[data-theme]");
  if (theme) appearance(theme.dataset.theme);
  const opener = event.target.closest("[data-opens]");
  if (opener) {
    closeMenus();
    document.getElementById(opener.dataset.opens).showModal();
  }
  const dialog = event.target.closest("dialog");
  if (dialog && event.target === dialog) dialog.close(); // on its backdrop
  if (event.target.closest("[data-closes]")) dialog.close();
  closeMenus(event.target.closest("details.menu"));
});

function closeMenus(but = null) {
  for (const menu of document.querySelectorAll("details.menu[open]")) {
    if (menu !== but) menu.open = false;
  }
}

// --- keys ----------------------------------------------------------------------------------------

const PAUSE = 1500; // milliseconds between g and what follows
let began = -Infinity;

function visible(element) {
  return element.checkVisibility ? element.checkVisibility() : element.offsetParent !== null;
}

function shortcut(keys) {
  return [...document.querySelectorAll("[data-key]")].find(
    (one) => one.dataset.key === keys && (visible(one) || one.closest("nav")),
  );
}

function use(element) {
  if (element.matches("input, select, textarea")) {
    element.focus();
    element.select?.();
  } else if (element.matches("details > summary")) {
    element.click();
    element.focus();
  } else {
    element.click();
  }
}

function step(by) {
  const rows = [...document.querySelectorAll("[data-row]")];
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(Math.max(at + by, 0), rows.length - 1)].focus();
  return true;
}

function help() {
  const list = document.getElementById("help-page");
  const mine = [...document.querySelectorAll("main [data-key]")].filter(visible);
  list.replaceChildren(...mine.map((element) => {
    const row = document.createElement("div");
    const key = document.createElement("kbd");
    key.textContent = element.dataset.key;
    const name = document.createElement("dd");
    name.textContent = element.dataset.keyName || element.getAttribute("aria-label")
      || element.labels?.[0]?.textContent || element.textContent.trim();
    const term = document.createElement("dt");
    term.append(key);
    row.append(term, name);
    return row;
  }));
  document.getElementById("help-rows").hidden = !document.querySelector("[data-row]");
  document.getElementById("help").showModal();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (event.key === "Escape") {
    const menu = document.querySelector("details.menu[open]");
    if (menu) {
      menu.open = false;
      menu.querySelector("summary").focus();
    } else if (!document.querySelector("dialog:modal")) {
      document.querySelector("a[data-closes-sheet]")?.click();
    }
    return;
  }
  const at = event.target;
  // A dialog that was just closed has the focus until the next frame.
  if (visible(at) && at.closest("input, textarea, select, dialog, [contenteditable]")) return;
  const after = performance.now() - began < PAUSE;
  began = -Infinity;
  if (event.key === "g" && !after) {
    began = performance.now();
    return;
  }
  if (after) {
    const place = shortcut(`g ${event.key}`);
    if (place) use(place);
  } else if (event.key === "?") help();
  else if (event.key === "t") appearance(isDark() ? "light" : "dark");
  else if (event.key === "j" || event.key === "k") {
    if (!step(event.key === "j" ? 1 : -1)) return;
  } else {
    const element = shortcut(event.key);
    if (!element) return;
    use(element);
  }
  event.preventDefault();
});

// --- whenever there is a new page ----------------------------------------------------------------

function begin() {
  markAppearance();
  orderDates();
  for (const nav of document.querySelectorAll(".sections, .tabs")) {
    const current = nav.querySelector("[aria-current]");
    if (current && nav.scrollWidth > nav.clientWidth) {
      const { left, width } = current.getBoundingClientRect();
      nav.scrollLeft += left + width / 2 - nav.getBoundingClientRect().left - nav.clientWidth / 2;
    }
  }
  // A sheet that the address opens takes the focus; one that was closed gives it back to its row.
  const sheet = document.querySelector(".sheet[data-sheet]");
  if (sheet && !sheet.contains(document.activeElement)) sheet.focus();
  if (!sheet && lastSheet) document.querySelector(`[data-row="${CSS.escape(lastSheet)}"]`)?.focus();
  lastSheet = sheet ? sheet.dataset.sheet : null;
  document.dispatchEvent(new CustomEvent("page:shown"));
}

let lastSheet = null;
document.addEventListener("htmx:afterSettle", (event) => {
  if (event.target === document.body) begin();
});
document.addEventListener("htmx:historyRestore", begin);
begin();
