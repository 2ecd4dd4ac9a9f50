// How a page changes something: JSON to the HTTP API of a group, from the browser, with the session
// that all three ports share. Elements ask for it by attributes (docs/dashboard.md); scripts call
// window.troupe.call.
"use strict";

window.troupe = (() => {
  const DEADLINE = 30_000; // milliseconds
  const SHOWN = 6_000; // milliseconds that a message stays

  class Problem extends Error {
    constructor(status, document) {
      super(document.detail || document.title || "It did not work.");
      this.status = status;
      this.title = document.title || "It did not work";
      this.errors = document.errors || [];
      this.requestId = document.request_id || "";
    }
  }

  // "data:/api/v1/jobs" is a route of the data group, "/api/v1/stats" one of our own.
  function address(route) {
    const [, group, path] = /^(?:(auth|data):)?(\/.*)$/.exec(route) || [];
    if (path === undefined) throw new TypeError(`${route} is not a route`);
    return (group ? document.body.dataset[group] : "") + path;
  }

  // Answers {status, body, etag}; throws a Problem, also when nobody answers.
  async function call(method, route, { body, etag, key, headers } = {}) {
    const sent = { Accept: "application/json", ...headers };
    if (method !== "GET") sent["X-CSRF-Token"] = document.body.dataset.csrf;
    if (etag) sent["If-Match"] = etag;
    if (key) sent["Idempotency-Key"] = key;
    let content = body;
    if (body !== undefined && !(body instanceof Blob)) {
      sent["Content-Type"] = "application/json";
      content = JSON.stringify(body);
    }
    let answer;
    try {
      answer = await fetch(address(route), {
        method, headers: sent, body: content, credentials: "include", redirect: "error",
        signal: AbortSignal.timeout(DEADLINE),
      });
    } catch (error) {
      if (error instanceof TypeError && !error.message.includes("fetch")) throw error;
      throw new Problem(0, {
        title: "No answer", detail: "Troupe cannot be reached at the moment. Try again.",
      });
    }
    const text = await answer.text();
    let said = null;
    try {
      said = text ? JSON.parse(text) : null;
    } catch {
      throw new Problem(answer.status, { detail: "The answer could not be read." });
    }
    if (!answer.ok) throw new Problem(answer.status, said || {});
    return { status: answer.status, body: said, etag: answer.headers.get("ETag") };
  }

  function notify(text, { bad = false } = {}) {
    const toast = document.createElement("p");
    toast.className = bad ? "toast bad" : "toast";
    if (bad) toast.setAttribute("role", "alert");
    toast.textContent = text;
    document.getElementById("toasts").append(toast);
    setTimeout(() => toast.remove(), bad ? 2 * SHOWN : SHOWN);
  }

  // The page anew, from its own address; place and focus stay.
  function refresh() {
    return htmx.ajax("GET", location.pathname + location.search, {
      target: "body", swap: "innerHTML show:none",
    });
  }

  function confirmed(question, action) {
    const dialog = document.getElementById("confirm");
    dialog.querySelector("p").textContent = question;
    dialog.querySelector("[value=yes]").textContent = action || "Yes";
    dialog.returnValue = "";
    dialog.showModal();
    return new Promise((resolve) => {
      dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
    });
  }

  // --- what a form says ------------------------------------------------------------------------

  const LISTED = /[\n,]+/;

  function valueOf(field) {
    const type = field.dataset.type || (field.type === "checkbox" ? "boolean" : field.type);
    if (type === "boolean" && field.type === "checkbox") return field.checked;
    const text = field.type === "password" || field.tagName === "TEXTAREA"
      ? field.value : field.value.trim();
    if (text === "") {
      if (field.dataset.empty) return { null: null, text: "" }[field.dataset.empty];
      return { list: [], claims: {} }[type];
    }
    switch (type) {
      case "boolean": return text === "true";
      case "number": return Number(text);
      case "list": return text.split(LISTED).map((one) => one.trim()).filter(Boolean);
      case "claims": return claimsOf(text);
      case "json": return JSON.parse(text);
      case "instant": return new Date(text).toISOString();
      default: return text;
    }
  }

  // "groups: sales, service", one claim a line.
  function claimsOf(text) {
    const claims = {};
    for (const line of text.split("\n").filter((one) => one.trim())) {
      const [, name, values] = /^\s*([^:]+?)\s*:(.*)$/.exec(line) || [];
      if (!name) throw new Error(`“${line.trim()}” must read claim: value, value`);
      claims[name] = values.split(",").map((one) => one.trim()).filter(Boolean);
    }
    return claims;
  }

  function put(into, name, value) {
    const path = name.split(".");
    const last = path.pop();
    let place = into;
    for (const step of path) place = place[step] ??= {};
    place[last] = value;
  }

  // Whether somebody has made something else of a field than what the page came with.
  function differs(field) {
    if (field.type === "hidden") return true;
    if (field.tagName === "SELECT") {
      const initial = [...field.options].find((one) => one.defaultSelected) || field.options[0];
      return initial !== field.selectedOptions[0];
    }
    return field.type === "checkbox" ? field.checked !== field.defaultChecked
      : field.value !== field.defaultValue;
  }

  function bodyOf(form) {
    const body = {};
    for (const field of form.elements) {
      if (!field.name || field.disabled || field.type === "submit") continue;
      if (field.type === "radio" && !field.checked) continue;
      if (form.hasAttribute("data-changed-only") && !differs(field)) continue;
      const value = valueOf(field);
      if (value !== undefined) put(body, field.name, value);
    }
    return body;
  }

  // --- what went wrong -------------------------------------------------------------------------

  function clear(form) {
    for (const field of form.querySelectorAll("[aria-invalid]")) {
      field.removeAttribute("aria-invalid");
    }
    for (const text of form.querySelectorAll(".field-error")) text.textContent = "";
    const box = form.querySelector(":scope > .form-error, .form-error");
    if (box) {
      box.hidden = true;
      box.textContent = "";
    }
  }

  // Beside the fields that the problem points at, and above the form what belongs to none.
  function show(form, problem) {
    const left = [];
    for (const { pointer, message } of problem.errors) {
      const name = (pointer || "").replace(/^[/?]/, "").replaceAll("/", ".");
      const field = form.elements.namedItem(name);
      const place = field && field.id && document.getElementById(`${field.id}-error`);
      if (place) {
        field.setAttribute("aria-invalid", "true");
        place.textContent = message;
      } else {
        left.push(name ? `${name.replaceAll("_", " ")}: ${message}` : message);
      }
    }
    const box = form.querySelector(".form-error");
    if (!box) {
      notify([problem.message, ...left].join(" "), { bad: true });
    } else {
      box.hidden = false;
      box.textContent = [problem.message, ...left].join(" ");
    }
    form.querySelector("[aria-invalid]")?.focus();
  }

  // --- elements that ask for it ----------------------------------------------------------------

  async function act(element, body, fail) {
    const [method, route] = element.dataset.api.split(" ");
    const { confirm, confirmAction, etag, done, then } = element.dataset;
    if (confirm && !(await confirmed(confirm, confirmAction))) return;
    const buttons = element.tagName === "FORM"
      ? [...element.querySelectorAll("button")] : [element];
    for (const button of buttons) button.disabled = true;
    element.setAttribute("aria-busy", "true");
    try {
      const key = method === "POST" ? crypto.randomUUID() : undefined;
      const answer = await call(method, route, { body, etag, key });
      const said = element.dataset.says && answer.body?.[element.dataset.says];
      if (done || said) notify(said || done, { bad: answer.body?.works === false });
      const seen = new CustomEvent("api:done", { bubbles: true, cancelable: true, detail: answer });
      if (!element.dispatchEvent(seen) || then === "stay") return;
      // {name} in an address is what the answer has under that name.
      if (then) location.assign(then.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(answer.body[name])));
      else await refresh();
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 401) location.reload(); // to the login, and back
      else if (element.dispatchEvent(
        new CustomEvent("api:failed", { bubbles: true, cancelable: true, detail: problem }),
      )) fail(problem);
    } finally {
      for (const button of buttons) button.disabled = false;
      element.removeAttribute("aria-busy");
    }
  }

  // Caught on the way down: htmx would take the form for one that chooses what is shown.
  document.addEventListener("submit", (event) => {
    const form = event.target.closest("form[data-api]");
    if (!form) return;
    event.preventDefault();
    event.stopPropagation();
    clear(form);
    let body;
    if (form.dataset.body !== "none") {
      try {
        body = bodyOf(form);
      } catch (error) {
        show(form, new Problem(0, { detail: `A field cannot be read: ${error.message}` }));
        return;
      }
      if (form.hasAttribute("data-changed-only") && !Object.keys(body).length) {
        notify("Nothing is different.");
        return;
      }
    }
    act(form, body, (problem) => show(form, problem));
  }, true);

  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-api]");
    if (!button) return;
    event.preventDefault();
    const body = button.dataset.json ? JSON.parse(button.dataset.json) : undefined;
    act(button, body, (problem) => notify(problem.message, { bad: true }));
  });

  return { call, notify, refresh, confirmed, address, differs, Problem };
})();
