// The page works without this file: it spares people the "Show" button and impossible ranges.
"use strict";

document.documentElement.classList.add("scripted");

// A choice by pointer is shown at once. One by arrow keys may be only passing by: then the button
// comes back, and waits.
const view = document.getElementById("view");
for (const select of view ? view.querySelectorAll("select") : []) {
  let byKey = false;
  select.addEventListener("keydown", () => { byKey = true; });
  select.addEventListener("pointerdown", () => { byKey = false; });
  select.addEventListener("change", () => {
    if (byKey) view.classList.add("pending");
    else view.requestSubmit();
  });
}

const start = document.getElementById("start_date");
const end = document.getElementById("end_date");
if (start && end) {
  const order = () => { end.min = start.value || start.min; };
  start.addEventListener("change", order);
  order();
}
