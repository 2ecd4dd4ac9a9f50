// Loaded before the first paint, so that a chosen appearance does not flash.
"use strict";

document.documentElement.classList.add("scripted");
try {
  const chosen = localStorage.getItem("theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing for us shows what the system prefers.
}
