// The page works without this file: it only spares people the "Show" button.
"use strict";

for (const select of document.querySelectorAll(".controls select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
document.documentElement.classList.add("scripted");
