// Taking data along: an export is a stream of lines that the auth group sends as fast as we take them.
// It is counted while it comes, and offered once its last line says that it is whole.
"use strict";

(() => {
  const MOST = 2 * 2 ** 30; // bytes that a browser is asked to keep; beyond, the command line
  const PART = 8 * 2 ** 20; // bytes after which what has come is handed to the browser's own store
  const TOLD = 200; // milliseconds between two words about how far it is
  const LINE_END = 10;
  let running = null; // the AbortController of the export under way
  let address = null; // of what is offered

  class Problem extends Error {}

  function size(bytes) {
    if (bytes < 1e6) return `${Math.max(bytes / 1e3, 0.1).toFixed(1)} kB`;
    return bytes < 1e9 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(2)} GB`;
  }

  function words(lines, bytes) {
    return `${lines.toLocaleString("en")} ${lines === 1 ? "row" : "rows"}, ${size(bytes)}`;
  }

  function fileName(form, person) {
    const name = form.dataset.file.toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-+|-+$/g, "");
    const day = new Date().toISOString().slice(0, 10);
    return `${name || "tenant"}${person ? "-person" : ""}-${day}.jsonl`;
  }

  async function refusal(answer) {
    try {
      const said = await answer.json();
      return [said.detail || said.title, ...(said.errors || []).map((one) => one.message)].join(" ");
    } catch {
      return "The export could not be begun.";
    }
  }

  // The whole export as a Blob, with how many rows it has.
  async function take(route, body, signal, tell) {
    const answer = await fetch(troupe.address(route), {
      method: "POST",
      headers: {
        "Content-Type": "application/json",
        "X-CSRF-Token": document.body.dataset.csrf,
        Accept: "application/x-ndjson, application/problem+json",
      },
      body: JSON.stringify(body),
      credentials: "include",
      redirect: "error",
      signal,
    });
    if (!answer.ok) throw new Problem(await refusal(answer));
    const reader = answer.body.getReader();
    let parts = [], held = [], waiting = 0, bytes = 0, lines = 0, told = 0, tail = new Uint8Array(0);
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      held.push(value);
      waiting += value.length;
      bytes += value.length;
      for (const byte of value) if (byte === LINE_END) lines += 1;
      tail = value.length >= 200 ? value.slice(-200) : joined(tail, value).slice(-200);
      if (bytes > MOST) {
        await reader.cancel();
        throw new Problem("The export is larger than a browser can keep. Take it with a program: POST /api/v1/tenants/…/export of the auth group streams it without limit.");
      }
      if (waiting > PART) {
        parts.push(new Blob(held));
        [held, waiting] = [[], 0];
      }
      if (Date.now() - told > TOLD) {
        told = Date.now();
        tell(words(lines, bytes));
      }
    }
    const last = new TextDecoder().decode(tail).trimEnd().split("\n").at(-1);
    let end = null;
    try {
      end = JSON.parse(last);
    } catch {
      end = null; // cut within a line
    }
    if (!end || end.end !== true) throw new Problem("The export was cut short. Begin it again.");
    return { blob: new Blob([...parts, ...held], { type: "application/x-ndjson" }), rows: end.rows };
  }

  function joined(first, second) {
    const both = new Uint8Array(first.length + second.length);
    both.set(first);
    both.set(second, first.length);
    return both;
  }

  function show(form, state, text) {
    const run = form.querySelector(".export-run");
    run.hidden = false;
    run.querySelector("progress").hidden = state !== "running";
    run.querySelector("[data-stops]").hidden = state !== "running";
    run.querySelector("[data-part=file]").hidden = state !== "done";
    run.querySelector("[data-part=told]").textContent = text;
  }

  function forget() {
    if (address) URL.revokeObjectURL(address);
    address = null;
  }

  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("form[data-export]");
    if (!form) return;
    event.preventDefault();
    event.stopPropagation();
    if (running) return;
    forget();
    const error = form.querySelector(".form-error");
    error.hidden = true;
    const person = form.elements.namedItem("person").value.trim();
    const button = form.querySelector(".actions button");
    running = new AbortController();
    button.disabled = true;
    form.setAttribute("aria-busy", "true");
    show(form, "running", "Begins.");
    try {
      const { blob, rows } = await take(
        form.dataset.export, person ? { person } : {}, running.signal,
        (text) => show(form, "running", text),
      );
      address = URL.createObjectURL(blob);
      const file = form.querySelector("[data-part=file]");
      file.href = address;
      file.download = fileName(form, person);
      show(form, "done", rows ? `It is whole: ${words(rows, blob.size)}.` : "Nothing is stored under this identifier.");
      file.focus();
    } catch (problem) {
      form.querySelector(".export-run").hidden = true;
      if (problem.name === "AbortError") troupe.notify("The export is stopped.");
      else {
        error.textContent = problem instanceof Problem ? problem.message
          : "The connection was lost. Begin the export again.";
        error.hidden = false;
      }
    } finally {
      running = null;
      button.disabled = false;
      form.removeAttribute("aria-busy");
    }
  }, true);

  document.addEventListener("click", (event) => {
    if (event.target.closest("[data-stops]")) running?.abort();
  });
  // The page's content is exchanged without the document going away; what it took goes with it.
  document.addEventListener("page:shown", () => {
    running?.abort();
    forget();
  });
  addEventListener("beforeunload", (event) => {
    if (running) event.preventDefault();
  });
})();
