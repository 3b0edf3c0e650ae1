"""The page of the shop: one show, how many seats are free, and an order that changes while it is looked at."""

from __future__ import annotations

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Tickets</title>
<style>
:root { color-scheme: light dark; font: 18px/1.5 system-ui, sans-serif; }
body { max-width: 32rem; margin: 3rem auto; padding: 0 1rem; }
output { font-weight: bold; } label { display: block; margin: .6rem 0; } input, button { font: inherit; }
</style>
</head>
<body>
<h1>Hamlet</h1>
<p><output id="free">…</output> seats are free.</p>
<form>
<label>Seats <input id="count" type="number" min="1" max="20" value="2" required></label>
<label>Mail <input id="mail" type="email" value="ann@example.org" required></label>
<button>Order</button>
</form>
<p role="status" id="state"></p>
<script>
"use strict";
const at = (id) => document.getElementById(id);
const watch = (path, show) => {
  const source = new EventSource(path);
  source.onmessage = (message) => show(JSON.parse(message.data));
  return source;
};
watch("shop/watch/FreeSeats?show=hamlet", (free) => { at("free").textContent = free; });
let order = null;
document.querySelector("form").onsubmit = async (event) => {
  event.preventDefault();
  const answer = await fetch("orders", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ show: "hamlet", count: at("count").valueAsNumber, mail: at("mail").value }),
  });
  const placed = await answer.json();
  if (!answer.ok) { at("state").textContent = placed.detail; return; }
  if (order) order.close();
  order = watch("shop/watch/OrderState?order=" + placed.order, (state) => {
    at("state").textContent = "Your order is " + state + ".";
  });
};
</script>
</body>
</html>
"""
