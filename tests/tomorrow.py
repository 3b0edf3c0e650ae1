"""The shop as it is to be: its shelf counts the pieces that were ever added, and answers in dozens."""

from __future__ import annotations

from millstream.engine import App
from millstream.views import View, answers, applies
from tests.shop import Added, Book, Everything, Fragile, Pinboard, Stock, StockOf, Taken

__all__ = ["Shelf", "broken_shop", "shop"]


class Shelf(View):
    code_version = 2
    stock: dict[str, int] = {}
    ever: dict[str, int] = {}

    @applies
    def added(self, event: Added) -> None:
        self.stock[event.item] = self.stock.get(event.item, 0) + event.count
        self.ever[event.item] = self.ever.get(event.item, 0) + event.count

    @applies
    def taken(self, event: Taken) -> None:
        self.stock[event.item] -= event.count

    @answers
    def stock_of(self, query: StockOf) -> int:
        return self.stock.get(query.item, 0) // 12

    @answers
    def everything(self, query: Everything) -> dict[str, int]:
        return dict(self.stock)


class _Broken:
    class Shelf(Shelf):
        code_version = 3

        @applies
        def added(self, event: Added) -> None:
            raise ValueError("tomorrow can't")


shop = App(models=[Stock, Book], views=[Shelf, Pinboard, Fragile], name="shop")
broken_shop = App(models=[Stock, Book], views=[_Broken.Shelf, Pinboard, Fragile], name="shop")
