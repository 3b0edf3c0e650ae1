"""The page to try an application with: one text, which loads nothing but what it is served beside.

Here: the page and its headers. Whatever an application says is put into it as text, never as HTML; and the policy lets
no other script run than the one that stands here.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256

__all__ = ["PAGE", "PAGE_HEADERS"]

_STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
body { max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h2 { margin: 2rem 0 .5rem; font-size: 1.1rem; }
details { border: 1px solid #8886; border-radius: .4rem; margin: .4rem 0; padding: .4rem .8rem; }
summary { cursor: pointer; } summary small { opacity: .7; margin-left: .6rem; }
label { display: block; margin: .5rem 0; }
input, textarea, button { font: inherit; box-sizing: border-box; }
input, textarea { width: 100%; font-family: ui-monospace, monospace; font-size: .9rem; }
pre { overflow: auto; max-height: 24rem; background: #8882; padding: .6rem; white-space: pre-wrap; }
[role=alert]:empty { display: none; }
"""

_SCRIPT = """
"use strict";
const $ = (tag, props = {}, ...children) => {
  const made = Object.assign(document.createElement(tag), props);
  made.append(...children);
  return made;
};
const main = document.querySelector("main"), token = document.querySelector("#token");
const problem = document.querySelector("[role=alert]");
const secret = () => (token.value ? { Authorization: "Bearer " + token.value } : {});

const meant = (schema, all) => (schema && schema.$ref ? all[schema.$ref.split("/").pop()] : schema) || {};
function sample(given, all, depth = 0) {
  const schema = meant(given, all);
  if (depth > 4) return null;
  if ("default" in schema) return schema.default;
  if ("const" in schema) return schema.const;
  if (schema.enum) return schema.enum[0];
  if (schema.anyOf) return sample(schema.anyOf[0], all, depth + 1);
  if (schema.type === "object") {
    const found = {};
    for (const name of schema.required || []) found[name] = sample(schema.properties[name], all, depth + 1);
    return found;
  }
  if (schema.type === "array") return [];
  if (["integer", "number"].includes(schema.type)) return schema.minimum ?? (schema.exclusiveMinimum ?? -1) + 1;
  return { string: "", boolean: false }[schema.type] ?? null;
}

function form(path, method, operation, all) {
  const inputs = (operation.parameters || []).map((each) => [each, $("input", {
    placeholder: (each.schema && meant(each.schema, all).type) || "", required: Boolean(each.required),
  })]);
  const fields = inputs.filter(([each]) => each.in === "query");
  const headers = inputs.filter(([each]) => each.in === "header");
  const content = operation.requestBody && operation.requestBody.content["application/json"];
  const body = content && $("textarea", { rows: 5, value: JSON.stringify(sample(content.schema, all), null, 2) });
  const out = $("pre", { tabIndex: 0, ariaLive: "polite" });
  const label = ([each, input]) => $("label", {}, each.name + (each.required ? " (required)" : ""), input);
  const more = $("details", {}, $("summary", {}, "Headers"), ...headers.map(label));
  const send = $("button", { type: "submit" }, "Send"), stop = $("button", { type: "button", disabled: true }, "Stop");
  const written = body ? [$("label", {}, "Body", body)] : [];
  const made = $("form", {}, ...fields.map(label), ...written, more, send, " ", stop, out);
  let under_way = null;
  stop.onclick = () => under_way && under_way.abort();
  made.onsubmit = async (event) => {
    event.preventDefault();
    under_way = new AbortController();
    send.disabled = true; stop.disabled = false; out.textContent = "";
    const asked = new URLSearchParams();
    for (const [each, input] of fields) {
      if (!input.value) continue;
      const several = meant(each.schema, all).type === "array";
      for (const value of several ? input.value.split(",") : [input.value]) asked.append(each.name, value.trim());
    }
    const given = { ...secret() };
    for (const [each, input] of headers) if (input.value) given[each.name] = input.value;
    if (body) given["Content-Type"] = "application/json";
    try {
      const address = "." + path + (asked.size ? "?" + asked : "");
      const options = { method: method.toUpperCase(), headers: given, signal: under_way.signal };
      const answer = await fetch(address, body ? { ...options, body: body.value } : options);
      out.textContent = answer.status + " " + answer.statusText + "\\n";
      for (const name of ["etag", "retry-after", "millstream-position", "millstream-version"])
        if (answer.headers.has(name)) out.textContent += name + ": " + answer.headers.get(name) + "\\n";
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read())
        out.textContent = (out.textContent + part.value).slice(-100000);
    } catch (error) { out.textContent += "\\n" + error; }
    send.disabled = false; stop.disabled = true;
  };
  return made;
}

async function load() {
  problem.textContent = "";
  main.replaceChildren();
  const answer = await fetch("./openapi.json", { headers: secret() });
  const found = await answer.json();
  if (!answer.ok) { problem.textContent = found.detail; return; }
  document.title = found.info.title;
  document.querySelector("h1").textContent = found.info.title;
  const groups = new Map();
  for (const [path, methods] of Object.entries(found.paths))
    for (const [method, operation] of Object.entries(methods)) {
      const title = $("summary", {}, method.toUpperCase() + " " + path, $("small", {}, operation.summary || ""));
      const shown = $("details", {}, title);
      shown.ontoggle = () => shown.open && shown.childElementCount < 2
        && shown.append(form(path, method, operation, found.components.schemas));
      const tag = (operation.tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push(shown);
    }
  for (const [tag, all] of groups) main.append($("section", {}, $("h2", {}, tag), ...all));
}
document.querySelector("#load").onclick = load;
load();
"""

PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>millstream</title><link rel="icon" href="data:,"><style>{_STYLE}</style></head>
<body>
<h1>millstream</h1>
<label>Token <input id="token" type="password" autocomplete="off"></label> <button id="load" type="button">Load</button>
<p role="alert"></p>
<main></main>
<script>{_SCRIPT}</script>
</body>
</html>
"""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


#: What a browser lets the page do: run this script, be shown in this style, and ask the server it came from.
PAGE_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(_STYLE)}; connect-src 'self'; "
        "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
