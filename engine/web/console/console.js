"use strict";
// The console. Whatever comes from the log or from a view is put into the page as text, by `make`, and never as HTML.

const at = (id) => document.getElementById(id);
const panel = at("panel");

/** An element: its properties, those with a dash as attributes, and its children, where texts stay texts. */
function make(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.includes("-") || name === "role") made.setAttribute(name, value);
    else made[name] = value;
  }
  made.append(...children.flat().filter((each) => each !== null && each !== undefined && each !== false));
  return made;
}

const count = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const numbered = (value) => (value >= 100000 ? short.format(value) : count.format(Math.round(value * 10) / 10));
const shown = (value) => JSON.stringify(value, null, 2);
const clock = (text) => text.slice(0, 19).replace("T", " ");
const stamp = (text) => make("time", { dateTime: text }, make("span", { className: "optional" }, text.slice(0, 10) + " "), text.slice(11, 19));

// Asking the server.

let token = "";
class Problem extends Error {}

async function api(path, { method = "GET", body, headers = {} } = {}) {
  const given = { ...headers };
  if (token) given.Authorization = "Bearer " + token;
  if (body !== undefined) given["Content-Type"] = "application/json";
  const answer = await fetch("./" + path, { method, headers: given, body: body === undefined ? undefined : JSON.stringify(body) });
  const text = await answer.text();
  const found = text ? JSON.parse(text) : null;
  if (!answer.ok) throw Object.assign(new Problem(found?.detail || answer.statusText), { status: answer.status, found });
  return found;
}

let complaint = null;
function complain(error, from = "work") {
  complaint = from;
  const words = error instanceof Problem ? error.message : "The server can't be reached: " + error.message;
  if (at("problem").textContent !== words) at("problem").textContent = words;
}
/** What was complained of is over: that of the reader's own work only when other work was done. */
function calm(from = "work") {
  if (complaint === null || (from === "look" && complaint !== "look")) return;
  complaint = null;
  at("problem").textContent = "";
}
const say = (words) => { at("said").textContent = words; };

/** Do something that may fail, and show what it failed with. */
async function attempt(work) {
  try { const found = await work(); calm(); return found; } catch (error) { complain(error); return undefined; }
}

function confirmed(title, text, yes) {
  const dialog = at("confirm");
  at("confirm-title").textContent = title;
  at("confirm-text").textContent = text;
  at("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

// Figures, once a second while the page is seen.

const POINTS_MAX = 300;
const series = { commands: [], commit: [], batch: [], lag: [] };
let figures = null, before = null;
const may = (method) => Boolean(figures?.may.includes(method));

function note(found, seconds) {
  const push = (name, value) => { series[name].push(value); if (series[name].length > POINTS_MAX) series[name].shift(); };
  const writer = found.writer, earlier = before?.writer;
  if (writer && earlier && seconds > 0) {
    const commits = Math.max(0, writer.commits - earlier.commits), commands = Math.max(0, writer.commands - earlier.commands);
    push("commands", commands / seconds);
    push("commit", commits ? (1000 * (writer.commits_seconds - earlier.commits_seconds)) / commits : 0);
    push("batch", commits ? commands / commits : 0);
  }
  push("lag", Math.max(0, ...Object.values(found.views).map((view) => view.lag_events)));
}

let asked_at = 0;
async function look() {
  if (document.hidden) return;
  try {
    const found = await api("stats"), now = performance.now();
    note(found, (now - asked_at) / 1000);
    figures = before = found;
    asked_at = now;
    calm("look");
    head(found);
    tabs[current()]?.update?.();
  } catch (error) {
    if (complaint !== "work") complain(error, "look");
    at("health").className = "pill bad";
    at("health").querySelector(".words").textContent = error.status === 401 ? "a token is wanted" : "out of reach";
  }
}

function head(found) {
  document.title = found.app + " · millstream";
  at("app").textContent = found.app;
  const pill = at("health"), words = found.health.ready ? "ready" : "not ready: " + found.health.reasons.join(", ");
  pill.className = "pill " + (found.health.ready ? "good" : "bad");
  if (pill.querySelector(".words").textContent !== words) pill.querySelector(".words").textContent = words;
  at("role").textContent = found.health.role;
  at("position").textContent = count.format(found.health.position);
  const parked = Object.values(found.effects).reduce((sum, each) => sum + each.parked, 0);
  at("agenda-count").hidden = !parked;
  at("agenda-count").textContent = parked;
  at("agenda-count").setAttribute("aria-label", parked + " parked");
}

// Plots.

function plot(title, unit, digits) {
  const value = make("p", { className: "now" }), low = make("span"), high = make("span");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 300 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "plot");
  svg.setAttribute("role", "img");
  const part = (tag, name) => {
    const made = document.createElementNS(svg.namespaceURI, tag);
    made.setAttribute("class", name);
    svg.append(made);
    return made;
  };
  const area = part("path", "area"), stroke = part("path", "stroke"), base = part("line", "base");
  base.setAttribute("x1", 0); base.setAttribute("x2", 300); base.setAttribute("y1", 100); base.setAttribute("y2", 100);
  const node = make("figure", { className: "card" }, make("figcaption", {}, title), value, svg,
    make("p", { className: "range", "aria-hidden": "true" }, low, high));
  const draw = (values) => {
    const last = values.at(-1) ?? 0, most = Math.max(...values, 0), top = most || 1;
    const words = digits && last < 100 ? last.toFixed(digits) : numbered(last);
    value.replaceChildren(words, make("small", {}, unit));
    const step = 300 / (Math.max(60, values.length) - 1); // a minute at least, so that the first points are seen
    const points = values.map((each, index) => [300 - (values.length - 1 - index) * step, 96 - (each / top) * 92]);
    const line = points.map(([x, y], index) => (index ? "L" : "M") + x.toFixed(1) + " " + y.toFixed(1)).join("");
    stroke.setAttribute("d", line);
    area.setAttribute("d", points.length ? line + `L300 100L${points[0][0]} 100Z` : "");
    low.textContent = values.length < 2 ? "" : `last ${values.length > 119 ? Math.round(values.length / 60) + " min" : values.length + " s"}`;
    high.textContent = "most " + (digits && most < 100 ? most.toFixed(digits) : numbered(most));
    svg.setAttribute("aria-label", `${title}: now ${words} ${unit}, at most ${numbered(most)}`);
  };
  return { node, draw };
}

// Tables.

function table(caption, heads) {
  const body = make("tbody");
  const node = make("div", { className: "scroll" }, make("table", {}, make("caption", {}, caption),
    make("thead", {}, make("tr", {}, heads.map((head) => make("th", { scope: "col", className: head.className }, head.text ?? head)))), body));
  return { node, body };
}
const cell = (content, className) => make("td", { className }, content);
const right = (text) => ({ text, className: "number" });
const hidden = (text) => ({ text, className: "optional" });
const card = (title, ...children) => make("section", { className: "card" }, title && make("h2", {}, title), ...children);

function state(status) {
  const good = ["live", "open", "deciding"].includes(status);
  return make("span", { className: "state " + (good ? "good" : "bad") }, make("span", { className: "dot" }), status);
}

// The overview.

function overview() {
  const plots = {
    commands: plot("Durable commands", "a second", 0),
    commit: plot("Time of a commit", "ms", 2),
    batch: plot("Commands in a commit", "on average", 1),
    lag: plot("Lag of the slowest view", "events", 0),
  };
  const views = table("What each view has applied", ["View", "State", right("Position"), right("Lag"), right("Queued"), right("Parked"), right("Watches")]);
  const facts = table("Of the writer, and of the log", ["What", right("Now")]);
  panel.replaceChildren(
    make("div", { className: "plots" }, Object.values(plots).map((each) => each.node)),
    card("Views", views.node), card("State", facts.node));
  return {
    update() {
      for (const [name, each] of Object.entries(plots)) {
        each.node.hidden = !figures.writer && name !== "lag";
        each.draw(series[name]);
      }
      views.body.replaceChildren(...Object.entries(figures.views).map(([name, view]) => make("tr", {},
        cell(name), cell(state(view.status)), cell(count.format(view.position), "number"), cell(count.format(view.lag_events), "number"),
        cell(count.format(view.queued_commits), "number"), cell(count.format(view.parked), "number" + (view.parked ? " wrong" : "")),
        cell(count.format(view.watches), "number"))));
      const { writer, replica } = figures, rows = [];
      if (writer) rows.push(["Writer", writer.status], ["Commits since it was opened", count.format(writer.commits)],
        ["Commands: durable, refused, failed", [writer.commands, writer.commands_refused, writer.commands_failed].map(count.format).join(", ")],
        ["Mailbox", `${count.format(writer.mailbox_commands)} of ${count.format(writer.mailbox_commands_max)}, ${count.format(writer.mailbox_entering)} wait for room`],
        ["Largest commit", count.format(writer.batch_max) + " commands"]);
      if (writer?.seconds_ahead) rows.push(["The log is ahead of the clock", writer.seconds_ahead + " s: timers wait"]);
      if (figures.snapshot_position !== null) rows.push(["Snapshots reach", `event ${count.format(figures.snapshot_position)}, ${count.format(Math.max(0, figures.health.position - figures.snapshot_position))} to replay`]);
      if (replica) rows.push(["Replica", replica.status + (replica.problem ? ": " + replica.problem : "")],
        ["Behind the log", `${count.format(replica.lag_events)} events, ${replica.lag_seconds} s`]);
      rows.push(["Streams over HTTP", count.format(figures.streams)]);
      facts.body.replaceChildren(...rows.map(([name, value]) => make("tr", {}, cell(name), cell(value, "number"))));
    },
  };
}

// The log.

const FILTERS = [["type", "Type"], ["key", "Key"], ["actor", "Who"], ["correlation", "Correlation"], ["causation", "Follows from"], ["command_id", "Command id"]];

function log(params) {
  const inputs = FILTERS.map(([name, label]) => [name, label, make("input", { value: params.get(name) ?? "", spellcheck: false, autocomplete: "off", "data-filter": name })]);
  const live = make("input", { type: "checkbox", checked: params.get("live") === "1" });
  const list = table("", [right("Position"), "Time", "Event", "Key", hidden("Who"), hidden("Command")]);
  const caption = list.node.querySelector("caption"), older = make("button", { type: "button" }, "Earlier"), empty = make("p", { className: "empty" });
  const form = make("form", {},
    make("div", { className: "fields" }, inputs.map(([, label, input]) => make("label", { className: "field" }, make("span", {}, label), input))),
    make("div", { className: "actions" }, make("button", { type: "submit", className: "main" }, "Show"),
      make("button", { type: "button", onclick: () => go("log") }, "Clear"),
      make("label", { className: "field check" }, live, make("span", {}, "Live"))));
  form.onsubmit = (event) => { event.preventDefault(); filter(Object.fromEntries(inputs.map(([name, , input]) => [name, input.value.trim()]))); };
  const filter = (wanted) => go("log", { ...wanted, ...(live.checked ? { live: "1" } : {}) });
  const key = params.get("key");
  panel.replaceChildren(card(null, form), card(key ? "Timeline of " + key : "Events", list.node, empty, older));
  let next = null, newest = null, under_way = false, total = 0;
  const query = (extra) => {
    const asked = new URLSearchParams();
    for (const [name] of FILTERS) if (params.get(name)) asked.append(name, params.get(name));
    for (const [name, value] of Object.entries(extra)) asked.append(name, value);
    return asked;
  };
  async function load(earlier) {
    if (under_way) return;
    under_way = true;
    older.disabled = true;
    await attempt(async () => {
      const page = await api("log?" + query({ limit: 100, ...(earlier ? { before: next } : {}) }));
      const rows = page.happened.flatMap(row);
      if (earlier) list.body.append(...rows); else list.body.replaceChildren(...rows);
      total = (earlier ? total : 0) + page.happened.length;
      next = page.before;
      newest = page.position;
      caption.textContent = `${count.format(total)} shown, newest first`;
      empty.textContent = total ? "" : "Nothing was found" + (next ? ` in the last ${count.format(page.searched)} events.` : ".");
      empty.hidden = total > 0;
      older.hidden = next === null;
    });
    older.disabled = under_way = false;
  }
  function row({ event, about }) {
    const { type, ...fields } = event, open = make("button", { type: "button", className: "link", "aria-expanded": "false" }, type);
    const go_to = (name, value) => value && make("button", { type: "button", className: "link", onclick: () => filter({ [name]: value }) }, value);
    const line = make("tr", {}, cell(count.format(about.position), "number"), cell(stamp(about.recorded_at), "time"), cell(open),
      cell(go_to("key", about.key)), cell(about.actor ?? "", "optional"), cell(make("span", { className: "tag" }, about.command), "optional"));
    let detail = null;
    open.onclick = () => {
      open.setAttribute("aria-expanded", String(!detail));
      if (detail) { detail.remove(); detail = null; return; }
      const known = [["recorded", about.recorded_at], ["command", about.command], ["command id", go_to("command_id", about.command_id)], ["who", go_to("actor", about.actor)],
        ["correlation", go_to("correlation", about.correlation)], ["follows from", caused_by(about.causation)], ["trace", about.trace],
        ["extra", about.extra && shown(about.extra)]].filter(([, value]) => value);
      detail = make("tr", { className: "detail" }, make("td", { colSpan: 6 },
        make("dl", { className: "about" }, known.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)])),
        make("pre", { tabIndex: 0 }, shown(fields)),
        make("div", { className: "actions" },
          about.key && make("button", { type: "button", onclick: () => filter({ key: about.key }) }, "Timeline of " + about.key),
          make("button", { type: "button", onclick: () => filter({ causation: "event:" + about.position }) }, "What followed from it"))));
      line.after(detail);
    };
    return [line];
  }
  function caused_by(causation) {
    const position = /^(?:event|effect):(\d+)/.exec(causation ?? "")?.[1];
    if (!position) return causation;
    return make("button", { type: "button", className: "link", onclick: () => go("log", { around: position }) }, causation);
  }
  older.onclick = () => load(true);
  const around = Number(params.get("around"));
  if (around) next = around + 1;
  load(Boolean(around));
  live.onchange = () => filter(Object.fromEntries(FILTERS.map(([name]) => [name, params.get(name) ?? ""])));
  return { update() { if (live.checked && newest !== figures.health.position && !list.body.querySelector(".detail")) load(false); } };
}

// Commands and queries, from the schemas.

let document_of = null;
async function described() {
  document_of ??= await api("openapi.json");
  return document_of;
}

function meant(schema, all) {
  let found = schema ?? {};
  while (found.$ref) found = all[found.$ref.split("/").pop()];
  if (found.anyOf) {
    const others = found.anyOf.filter((each) => each.type !== "null");
    if (others.length === 1) return { ...meant(others[0], all), nullable: true, default: found.default };
  }
  return found;
}

function field(name, given, required, all) {
  const schema = meant(given, all), label = name + (required ? "" : " (optional)");
  const about = [schema.description, schema.minimum !== undefined && "≥ " + schema.minimum, schema.exclusiveMinimum !== undefined && "> " + schema.exclusiveMinimum,
    schema.maximum !== undefined && "≤ " + schema.maximum].filter(Boolean).join(", ");
  const hint = about ? make("small", {}, about) : null;
  if (schema.type === "boolean") {
    const input = make("input", { type: "checkbox", checked: schema.default === true });
    return { node: make("label", { className: "field check" }, input, make("span", {}, label), hint), read: () => input.checked };
  }
  let input, read;
  if (schema.enum) {
    input = make("select", {}, !required && make("option", { value: "" }, "–"), schema.enum.map((each) => make("option", { value: JSON.stringify(each) }, String(each))));
    read = () => (input.value === "" ? undefined : JSON.parse(input.value));
  } else if (schema.type === "integer" || schema.type === "number") {
    input = make("input", { type: "text", inputMode: "decimal", required, value: schema.default ?? "", autocomplete: "off" });
    read = () => {
      if (input.value.trim() === "") return undefined;
      if (!/^-?\d+(\.\d+)?([eE][+-]?\d+)?$/.test(input.value.trim())) throw new Problem(`${name} is a number, not ${input.value}`);
      return Number(input.value);
    };
  } else if (schema.type === "string") {
    input = make("input", { type: "text", required: required && !("default" in schema), value: schema.default ?? "", autocomplete: "off", spellcheck: false });
    read = () => (input.value === "" && !required ? undefined : input.value);
  } else {
    input = make("textarea", { rows: 3, spellcheck: false, value: "default" in schema && schema.default !== undefined ? JSON.stringify(schema.default) : "", placeholder: "JSON" });
    read = () => {
      if (input.value.trim() === "") return undefined;
      try { return JSON.parse(input.value); } catch (error) { throw new Problem(`${name} is no JSON: ${error.message}`); }
    };
  }
  input.dataset.field = name;
  return { node: make("label", { className: "field" }, make("span", {}, label), input, hint), read };
}

function messages(kind, verb, method) {
  const asked = kind === "commands" ? "execute" : "ask";
  return (params) => {
    let button = null, under_way = false;
    const update = () => {
      if (button === null) return;
      button.disabled = under_way || !may(asked);
      button.title = may(asked) ? "" : "your role may not";
    };
    const choices = make("div", { className: "choices", role: "group", "aria-label": kind }), side = make("div", { className: "side" });
    panel.replaceChildren(make("div", { className: "split" }, make("section", { className: "card" }, choices), side));
    attempt(async () => {
      const { paths, components } = await described(), all = components.schemas;
      const names = Object.keys(paths).filter((path) => path.startsWith(`/${kind}/`) && paths[path].post).map((path) => decodeURIComponent(path.slice(kind.length + 2)));
      if (!names.length) { side.replaceChildren(card(null, make("p", { className: "empty" }, "The application has none."))); return; }
      const chosen = names.includes(params.get("name")) ? params.get("name") : names[0];
      choices.replaceChildren(...names.map((name) => make("button", { type: "button", "aria-current": String(name === chosen), onclick: () => go(kind, { name }) }, name)));
      const operation = paths[`/${kind}/${encodeURIComponent(chosen)}`]?.post ?? paths[`/${kind}/${chosen}`].post;
      const schema = meant(operation.requestBody?.content["application/json"].schema, all), needed = new Set(schema.required ?? []);
      const fields = Object.entries(schema.properties ?? {}).filter(([name]) => name !== "type").map(([name, each]) => [name, field(name, each, needed.has(name), all)]);
      const out = make("pre", { tabIndex: 0, role: "status", id: "outcome" }), send = make("button", { type: "submit", className: "main" }, verb);
      button = send;
      update();
      let outcome = null;
      const form = make("form", {}, make("div", { className: "fields" }, fields.map(([, each]) => each.node)), make("div", { className: "actions" }, send));
      form.onsubmit = async (event) => {
        event.preventDefault();
        under_way = true;
        update();
        try {
          const body = {};
          for (const [name, each] of fields) { const value = each.read(); if (value !== undefined) body[name] = value; }
          const found = await api(`${kind}/${encodeURIComponent(chosen)}`, { method, body });
          out.textContent = shown(found);
          out.className = "";
        } catch (error) {
          out.textContent = error.message + (error.found?.data ? "\n" + shown(error.found.data) : "");
          out.className = "wrong";
        }
        outcome.hidden = false;
        under_way = false;
        update();
        look();
      };
      outcome = card("Outcome", out);
      outcome.hidden = true;
      side.replaceChildren(card(chosen, operation.summary && make("p", { className: "empty" }, operation.summary), form), outcome);
    });
    return { update };
  };
}

// The agenda.

function agenda(params) {
  const only = make("select", { "aria-label": "Which entries" }, [["", "All"], ["true", "Parked"], ["false", "Not parked"]].map(([value, text]) => make("option", { value }, text)));
  only.value = params.get("parked") ?? "";
  only.onchange = () => go("agenda", only.value ? { parked: only.value } : {});
  const list = table("", ["Entry", "Message", "What it waits for", ""]), caption = list.node.querySelector("caption");
  const more = make("button", { type: "button", hidden: true }, "More"), empty = make("p", { className: "empty", hidden: true }, "Nothing is owed, due later, or parked.");
  const effects = table("By method", ["Method", right("Owed"), right("Running"), right("Parked"), right("Succeeded"), right("Failed"), ""]), effects_card = card("Effects", effects.node);
  panel.replaceChildren(effects_card, card("Entries", make("div", { className: "actions" }, only, make("button", { type: "button", onclick: () => load() }, "Look again")), list.node, empty, more));
  let next = null;
  async function load(from) {
    await attempt(async () => {
      const asked = new URLSearchParams({ limit: 100, ...(only.value ? { parked: only.value } : {}), ...(from ? { after: from } : {}) });
      const page = await api("agenda?" + asked), rows = page.entries.map(row);
      if (from) list.body.append(...rows); else list.body.replaceChildren(...rows);
      next = page.next;
      more.hidden = !next;
      empty.hidden = list.body.childElementCount > 0;
      caption.textContent = `${count.format(page.total)} in all, ${count.format(page.parked)} parked`;
    });
  }
  const button = (words, entry, verdict, text) => make("button", {
    type: "button", disabled: !may("settle"), title: may("settle") ? "" : "your role may not",
    onclick: async () => {
      if (!(await confirmed(words + "?", `${entry.id}: ${text}`, words))) return;
      const done = await attempt(() => api("agenda/" + encodeURIComponent(entry.id), { method: "POST", body: { verdict, again: verdict === "retry" && Boolean(entry.decided) } }));
      if (done) { say(`${words}: ${entry.id}` + (done.parked ? " failed again, and is parked" : " is done")); load(); look(); }
    },
  }, words);
  function row(entry) {
    const waits = entry.parked ? make("span", { className: "wrong" }, "parked: " + (entry.error ?? "") + (entry.text ? " – " + entry.text : ""))
      : entry.due ? "due " + clock(entry.due) : entry.by ? "for " + entry.by : "its turn";
    const message = entry.command ?? entry.event ?? entry.commands;
    return make("tr", {}, cell(entry.id), cell([make("span", { className: "tag" }, entry.type), message ? make("details", {}, make("summary", {}, "JSON"), make("pre", {}, shown(message))) : null]), cell(waits),
      cell(make("div", { className: "actions" },
        entry.parked && button("Retry", entry, "retry", "it is decided, or performed, once more."),
        entry.kind === "timer" && !entry.parked && button("Fire now", entry, "fire_now", "its command is sent before its time."),
        button("Drop", entry, "drop", "it is struck off for good: nothing of it will happen."))));
  }
  more.onclick = () => load(next);
  load();
  return {
    update() {
      const all = Object.entries(figures.effects);
      effects_card.hidden = !all.length;
      const steer = (name, paused) => make("button", { type: "button", disabled: !may("settle") || !figures.writer, onclick: async () => {
        const words = paused ? "Pause" : "Resume";
        if (!(await confirmed(words + "?", paused ? `No effect of ${name} begins until it is resumed, or the engine is opened anew.` : `Effects of ${name} begin again.`, words))) return;
        if (await attempt(() => api("effects/" + encodeURIComponent(name), { method: "POST", body: { paused } }))) { say(`${name} is ${paused ? "paused" : "resumed"}`); look(); }
      } }, paused ? "Pause" : "Resume");
      const marked = JSON.stringify(all) + may("settle");
      if (effects.marked === marked) return; // a button that is being pressed stays
      effects.marked = marked;
      effects.body.replaceChildren(...all.map(([name, each]) => make("tr", {}, cell([name, each.is_paused && make("span", { className: "warn" }, " paused")]),
        ...["owed", "running", "parked", "succeeded", "failed"].map((what) => cell(count.format(each[what]), "number" + (what === "parked" && each[what] ? " wrong" : ""))),
        cell(steer(name, !each.is_paused)))));
    },
  };
}

// The views.

function views() {
  const list = table("Each has its own state, and can be made anew from the log while it answers", ["View", "State", right("Position"), right("Lag"), right("Parked"), right("Skipped"), ""]);
  panel.replaceChildren(card("Views", list.node));
  const busy = new Map();
  async function step(name, what, words, text) {
    if (!(await confirmed(words + "?", `${name}: ${text}`, words))) return;
    busy.set(name, true);
    list.marked = "";
    const done = await attempt(() => api("views/" + encodeURIComponent(name), { method: "POST", body: { do: what } }));
    busy.delete(name);
    list.marked = "";
    if (done) say(`${name}: ${done.says}, at event ${count.format(done.position)}`);
    look();
  }
  return {
    update() {
      const all = Object.entries(figures.views), marked = JSON.stringify([all, [...busy], may("settle")]);
      if (list.marked === marked) return;
      const focused = document.activeElement?.dataset?.step;
      list.marked = marked;
      list.body.replaceChildren(...all.map(([name, view]) => {
        const off = !may("settle") || !figures.writer || busy.has(name);
        const button = (words, what, text) => make("button", { type: "button", disabled: off, "data-step": name + what, onclick: () => step(name, what, words, text) }, words);
        const progress = view.rebuild && make("div", {}, make("progress", { max: Math.max(1, view.rebuild.of), value: view.rebuild.events, "aria-label": "Rebuilding " + name }),
          make("small", {}, `${count.format(view.rebuild.events)} of ${count.format(view.rebuild.of)} events` + (view.rebuild.seconds_left === null ? "" : `, ${view.rebuild.seconds_left} s left`)));
        return make("tr", {}, cell(name), cell([state(view.status), progress]), cell(count.format(view.position), "number"), cell(count.format(view.lag_events), "number"),
          cell(count.format(view.parked), "number" + (view.parked ? " wrong" : "")), cell(count.format(view.skipped), "number"),
          cell(make("div", { className: "actions" }, button("Rebuild", "rebuild", "its state is made anew from the log, and takes the live one's place."),
            button("Compare", "compare", "its state is made anew beside the live one, which stays; what differs is counted."),
            view.parked > 0 && button("Try parked again", "replay_parked", "what could not be applied is tried once more."))));
      }));
      if (focused) list.body.querySelector(`[data-step="${CSS.escape(focused)}"]`)?.focus();
    },
  };
}

// Which of it is seen: the address says it, so that it can be sent, and gone back to.

const PAGES = { overview, log, commands: messages("commands", "Send", "POST"), queries: messages("queries", "Ask", "POST"), agenda, views };
const tabs = {};
const parts = () => { const [name, asked] = location.hash.slice(1).split("?"); return [name in PAGES ? name : "overview", new URLSearchParams(asked ?? "")]; };
const current = () => parts()[0];

function go(name, params = {}) {
  const asked = new URLSearchParams(Object.entries(params).filter(([, value]) => value !== "" && value !== undefined && value !== null));
  const wanted = "#" + name + (asked.size ? "?" + asked : "");
  if (location.hash === wanted) show(); else location.hash = wanted;
}

function show() {
  const [name, params] = parts();
  calm();
  for (const each of document.querySelectorAll("[role=tab]")) {
    const selected = each.dataset.tab === name;
    each.setAttribute("aria-selected", String(selected));
    each.tabIndex = selected ? 0 : -1;
    if (selected) panel.setAttribute("aria-labelledby", each.id);
  }
  say("");
  tabs[name] = PAGES[name](params);
  if (figures) tabs[name].update?.();
}

for (const each of document.querySelectorAll("[role=tab]")) each.onclick = () => go(each.dataset.tab);
document.querySelector("[role=tablist]").onkeydown = (event) => {
  const all = [...document.querySelectorAll("[role=tab]")], index = all.indexOf(document.activeElement);
  const moved = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: all.length - 1 }[event.key];
  if (moved === undefined || index < 0) return;
  event.preventDefault();
  const to = all[(moved + all.length) % all.length];
  to.focus();
  go(to.dataset.tab);
};
document.querySelector(".skip").onclick = (event) => { event.preventDefault(); panel.focus(); };
at("identify").onsubmit = async (event) => { event.preventDefault(); token = at("token").value.trim(); document_of = null; figures = before = null; await look(); show(); };
addEventListener("hashchange", show);
document.addEventListener("visibilitychange", look);
show();
look().then(() => tabs[current()]?.update && figures && tabs[current()].update());
setInterval(look, 1000);
