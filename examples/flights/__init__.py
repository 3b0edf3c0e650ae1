"""A year of real flights through the engine: every departure from New York's three airports in 2013.

Run it: ``python -m examples.flights``, or ``make demo``. Where to start reading: `messages` for what is said, `model`
for the rules, `board`, `punctuality`, `delays` and `aircraft` for what can be asked, `data` for what happened when, and
`days` for the order in which it happened.
"""
