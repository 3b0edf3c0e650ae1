"""The application: one write model, four views in memory and one in SQL."""

from __future__ import annotations

from examples.flights.aircraft import Aircraft
from examples.flights.board import DeparturesBoard
from examples.flights.delays import Delays
from examples.flights.model import Flights
from examples.flights.months import Months
from examples.flights.punctuality import Punctuality
from millstream.engine import App

__all__ = ["app"]

app = App(models=[Flights], views=[DeparturesBoard, Punctuality, Delays, Aircraft, Months], name="flights")
