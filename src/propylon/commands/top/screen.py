"""Draw the tables, and do what keys ask for. It needs `propylon[top]`.

Every cell is a text without markup: a name of anybody's is shown as it is, with escapes in place of what steers a terminal.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import DataTable, Footer, Static

from propylon.commands.top.link import Link, LinkLost
from propylon.commands.top.picture import INSTANCES, ROUTES, Picture, Row, sorted_rows
from propylon.commands.top.words import shown

__all__ = ["Top"]

_MOST = 200  # rows of a table; drawing more would take the terminal's time
_PAUSE = 1.0  # seconds before the gateway is asked again
_NUMBERS = frozenset(
    {"per second", "4xx", "5xx", "p50", "p95", "p99", "requests", "failed", "failures", "latency"}
)


@dataclass(slots=True)
class _Order:
    """By which column a table is sorted."""

    column: int
    falling: bool


class _Question(ModalScreen[bool]):
    """Asks once more before something is done."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape", "answer(False)", "No"),
    ]
    CSS = """
    _Question { align: center middle; }
    _Question Vertical { width: 70; max-width: 90%; height: auto; border: round $warning; padding: 1 2; background: $surface; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """Show the question, and the keys that answer it."""
        with Vertical():
            yield Static(Text(self._text), id="question")
            yield Static(Text("y: yes   n: no"))

    def action_answer(self, answer: bool) -> None:  # noqa: FBT001 — textual calls it
        """Close the dialog with an answer."""
        self.dismiss(answer)


class Top(App[None]):
    """What one gateway does, in all its workers."""

    TITLE = "propylon top"
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    #whole { height: 1; padding: 0 1; }
    #link { height: auto; padding: 0 1; color: $text-muted; }
    #link.lost { color: $error; }
    .name { height: 1; padding: 0 1; color: $text-muted; }
    DataTable { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "app.focus_next", "Table"),
        Binding("s", "sort", "Sort"),
        Binding("S", "turn", "Turn", key_display="S"),
        Binding("d", "drain(True)", "Drain"),
        Binding("u", "drain(False)", "Restore"),
        Binding("o", "change('OPEN')", "Open"),
        Binding("r", "change('CLOSED')", "Reset"),
        Binding("q", "quit", "Quit"),
    ]

    def __init__(self, link: Link, pause: float = _PAUSE) -> None:
        """`pause` is how long to wait, in seconds, before a gateway that was lost is asked again."""
        super().__init__()
        self.picture = Picture()
        self._link = link
        self._pause = pause
        self._orders = {"instances": _Order(2, falling=False), "routes": _Order(2, falling=True)}

    def compose(self) -> ComposeResult:
        """Two tables, with what is said of the whole above them."""
        yield Static(Text("Waiting for the gateway"), id="whole")
        yield Static(Text(f"{self._link.place.name}: connecting"), id="link")
        yield Static(Text("Instances"), classes="name", id="instances-name")
        yield _table("instances", INSTANCES)
        yield Static(Text("Routes"), classes="name", id="routes-name")
        yield _table("routes", ROUTES)
        yield Footer()

    def on_mount(self) -> None:
        """Begin to read."""
        self.query_one("#instances").focus()
        self.run_worker(self._follow(), exclusive=True, exit_on_error=True)

    # Reading

    async def _follow(self) -> None:
        while True:
            try:
                await self._read()
            except LinkLost as error:
                self._tell(f"{self._link.place.name}: {error}. Trying again.", lost=True)
                await asyncio.sleep(self._pause)

    async def _read(self) -> None:
        picture = self.picture
        got = False
        async with aclosing(self._link.lines(picture.generation, picture.seq)) as lines:
            async for line in lines:
                try:
                    picture.take(line)
                    self._draw()
                except (KeyError, TypeError, AttributeError, ValueError, IndexError):
                    self.picture = Picture()  # what was understood of it is not whole
                    msg = "what answers there is another release of the gateway: a line has not what is expected"
                    raise LinkLost(msg) from None
                got = True
                self._tell(f"{self._link.place.name}: live", lost=False)
        if not got:
            msg = "the gateway ended the stream at once"
            raise LinkLost(msg)

    def _tell(self, text: str, *, lost: bool) -> None:
        if not self._shows:
            return
        said = self.screen_stack[0].query_one("#link", Static)
        said.update(Text(text))
        said.set_class(lost, "lost")

    # Drawing

    @property
    def _shows(self) -> bool:
        """Whether there is a screen: at the end it is taken down while a line may still come."""
        return self.is_running and bool(self.screen_stack[0].query("#link").nodes)

    def _draw(self) -> None:
        if not self._shows:
            return
        self.screen_stack[0].query_one("#whole", Static).update(Text(self.picture.summary()))
        self._fill("instances", self.picture.instances())
        self._fill("routes", self.picture.routes())

    def _fill(self, name: str, rows: list[Row]) -> None:
        order = self._orders[name]
        kept = sorted_rows(rows, order.column, falling=order.falling)[:_MOST]
        table = self._table(name)
        chosen, top = self._chosen(name), table.scroll_y
        table.clear()
        columns = INSTANCES if name == "instances" else ROUTES
        for row in kept:
            cells = [
                Text(cell, justify="right" if column in _NUMBERS else "left")
                for cell, column in zip(row.cells, columns, strict=True)
            ]
            table.add_row(*cells, key="\x00".join(row.key))
        keys = [row.key for row in kept]
        if chosen in keys:
            # The cursor stays on what the operator looks at, wherever its row has moved.
            table.move_cursor(row=keys.index(chosen), animate=False, scroll=False)
        table.scroll_to(y=top, animate=False)
        more = f", {_MOST} of {len(rows):,}" if len(rows) > _MOST else ""
        way = "falling" if order.falling else "rising"
        text = f"{name.capitalize()}, by {columns[order.column]}, {way}{more}"
        self.screen_stack[0].query_one(f"#{name}-name", Static).update(Text(text))

    def _table(self, name: str) -> DataTable[Text]:
        found: DataTable[Text] = self.screen_stack[0].query_one(f"#{name}", DataTable)
        return found

    def _chosen(self, name: str) -> tuple[str, str] | None:
        """Return the key of the row that the cursor is on."""
        table = self._table(name)
        if not table.row_count:
            return None
        key = table.coordinate_to_cell_key(table.cursor_coordinate).row_key.value or ""
        first, _, second = key.partition("\x00")
        return first, second

    # Keys

    @property
    def _focused(self) -> str:
        return "routes" if self.focused is self._table("routes") else "instances"

    def action_sort(self) -> None:
        """Sort the table that has the focus by its next column; the sparkline is none."""
        order = self._orders[self._focused]
        columns = INSTANCES if self._focused == "instances" else ROUTES
        order.column = (order.column + 1) % len(columns)
        if not columns[order.column]:
            order.column += 1
        order.falling = columns[order.column] in _NUMBERS
        self._draw()

    def action_turn(self) -> None:
        """Sort it the other way round."""
        order = self._orders[self._focused]
        order.falling = not order.falling
        self._draw()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        """Sort by the column that was clicked; once more: the other way round."""
        order = self._orders[event.data_table.id or "instances"]
        columns = INSTANCES if event.data_table.id == "instances" else ROUTES
        if columns[event.column_index]:
            again = order.column == event.column_index
            order.falling = not order.falling if again else columns[event.column_index] in _NUMBERS
            order.column = event.column_index
            self._draw()

    def action_drain(self, drained: bool) -> None:  # noqa: FBT001 — textual calls it
        """Drain the instance of the row, or restore it, after one more question."""
        chosen = self._chosen("instances") if self._focused == "instances" else None
        if chosen is None or not chosen[1]:
            self._say("Choose an instance in the upper table first")
            return
        service, instance = chosen
        verb = "Drain" if drained else "Restore"
        then = (
            "it gets no new requests, and those in flight complete"
            if drained
            else "it gets requests again"
        )
        self._ask(
            f"{verb} {shown(instance)} of {shown(service)}? In all workers: {then}.",
            lambda: self._link.drain(service, instance, drained=drained),
            f"{shown(instance)} is {'drained' if drained else 'restored'}",
        )

    def action_change(self, state: str) -> None:
        """Open or reset the breaker of the row's service, after one more question."""
        name = self._focused
        chosen = self._chosen(name)
        service = None if chosen is None else chosen[0 if name == "instances" else 1]
        if service is None or not self.picture.has_breaker(service):
            self._say("Choose a service with a breaker first")
            return
        opens = state == "OPEN"
        then = (
            "no request passes until it is reset"
            if opens
            else "requests pass, and failures are forgotten"
        )
        self._ask(
            f"{'Open' if opens else 'Reset'} the breaker of {shown(service)}? In all workers: {then}.",
            lambda: self._link.change(service, state),
            f"The breaker of {shown(service)} is {'open' if opens else 'closed'}",
        )

    def _ask(self, question: str, act: Callable[[], Awaitable[None]], done: str) -> None:
        def answered(yes: bool | None) -> None:  # noqa: FBT001 — textual calls it
            if yes:
                self.run_worker(self._do(act, done))

        self.push_screen(_Question(question), answered)

    async def _do(self, act: Callable[[], Awaitable[None]], done: str) -> None:
        try:
            await act()
        except LinkLost as error:
            self._say(f"Not done: {error}", severe=True)
        else:
            self._say(done)

    def _say(self, text: str, *, severe: bool = False) -> None:
        self.notify(text, severity="error" if severe else "information", markup=False)


def _table(name: str, columns: tuple[str, ...]) -> DataTable[Text]:
    table: DataTable[Text] = DataTable(id=name, cursor_type="row", zebra_stripes=True)
    table.add_columns(*columns)
    return table
