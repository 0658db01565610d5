"""The connection between a page and its server, in a test's hand: cut, mended, and held back."""

from __future__ import annotations

from collections.abc import Callable

from playwright.sync_api import Page, WebSocketRoute, expect

STREAM = "**/_stcore/stream"
THERE = '[data-testid="stApp"][data-test-connection-state="CONNECTED"]'


class Line:
    """Stands between one page and its server. Make it before the page is opened."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._is_cut = False
        self._open: list[tuple[WebSocketRoute, WebSocketRoute]] = []
        self._held: list[Callable[[], None]] | None = None
        self._lost: list[bytes] = []
        page.route_web_socket(STREAM, self._opened)

    def cut(self) -> None:
        """Let the connection go, and no other come, until it is mended."""
        self._is_cut = True
        for page, server in self._open:
            page.close()
            server.close()
        self._open.clear()
        expect(self._page.locator(THERE)).to_have_count(0)

    def mend(self) -> None:
        """Let the page find its server again, and wait until it has."""
        self._is_cut = False
        expect(self._page.locator(THERE)).to_be_visible()

    def hold(self) -> None:
        """Keep what the page tells from now on, as a server does that has no time to read it."""
        self._held = []

    def let_go(self) -> None:
        """Hand over all that was kept, at once."""
        held, self._held = self._held or [], None
        for send in held:
            send()

    def lose(self, what: bytes) -> None:
        """Let the next message that holds `what` go astray, though the connection stands."""
        self._lost.append(what)

    @property
    def is_all_lost(self) -> bool:
        """Whether all that was to go astray has."""
        return not self._lost

    def _opened(self, page: WebSocketRoute) -> None:
        if self._is_cut:
            page.close()
            return
        server = page.connect_to_server()
        self._open.append((page, server))

        def tell(message: str | bytes) -> None:
            lost = [what for what in self._lost if isinstance(message, bytes) and what in message]
            if lost:
                self._lost.remove(lost[0])
            elif self._held is None:
                server.send(message)
            else:
                self._held.append(lambda: server.send(message))

        page.on_message(tell)
