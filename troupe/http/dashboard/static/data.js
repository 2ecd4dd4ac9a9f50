// The data page, live: jobs that wait or run are followed by server-sent events, and when one has
// ended the page is shown anew. Beyond a few, and for jobs that others start, it looks by itself.
"use strict";

(() => {
  const FOLLOWED = 4; // streams; a tenant may have 16 open in all
  const LOOK = 15_000; // milliseconds
  const sources = new Map();

  function stop() {
    for (const source of sources.values()) source.close();
    sources.clear();
  }

  function words({ done, total, rows, message, seconds_left: left }) {
    const found = [];
    if (total) found.push(`${done ?? 0} of ${total}`);
    if (rows) found.push(`${rows.toLocaleString("en")} rows`);
    if (left !== null && left > 0) found.push(`about ${left < 90 ? `${left} s` : `${Math.round(left / 60)} min`} left`);
    if (message) found.push(message);
    return found.join(" · ");
  }

  function show(row, job) {
    const bar = row.querySelector("progress");
    if (bar && job.percent !== null) bar.value = job.percent;
    const text = row.querySelector("[data-part=progress]");
    if (text) text.textContent = words(job.progress) || "begins";
    const state = row.querySelector("[data-part=state]");
    if (state && job.state === "running") {
      state.textContent = job.cancel_requested ? "Stopping" : "Running";
      state.className = job.cancel_requested ? "badge warn" : "badge accent";
    }
  }

  // Not while somebody types or decides.
  function isBusy() {
    const at = document.activeElement;
    return Boolean(document.querySelector("dialog[open], form[aria-busy], [data-keeps]:not([hidden])"))
      || Boolean(at && at.closest("form") && at.matches("input, select, textarea"));
  }

  function follow(row) {
    const source = new EventSource(troupe.address(row.dataset.follow), { withCredentials: true });
    sources.set(row.dataset.job, source);
    source.addEventListener("progress", (event) => {
      const job = JSON.parse(event.data);
      const shown = document.querySelector(`tr[data-job="${job.id}"]`);
      if (shown) show(shown, job);
      if (!["available", "running"].includes(job.state)) {
        source.close();
        sources.delete(job.id);
        if (!isBusy()) troupe.refresh();
      }
    });
  }

  function begin() {
    stop();
    for (const row of [...document.querySelectorAll("tr[data-follow]")].slice(0, FOLLOWED)) {
      follow(row);
    }
  }

  setInterval(() => {
    const isHere = document.getElementById("jobs");
    if (isHere && !document.hidden && !isBusy()) troupe.refresh();
  }, LOOK);
  addEventListener("pagehide", stop);
  document.addEventListener("page:shown", begin);
  begin();
})();
