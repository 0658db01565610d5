"""The app's front door: `streamlit run app.py`, `python app.py`, or `app` for an ASGI server.

Page and model live in one process behind one guarded port. The model begins to load when the process starts.
"""

from qwen_vl_app.offline import go_offline, listens_at

go_offline()  # before anything else is imported

from qwen_vl_app.logs import keep_words_out  # noqa: E402

keep_words_out()

import asyncio  # noqa: E402
import os  # noqa: E402
from collections.abc import AsyncIterator  # noqa: E402
from contextlib import asynccontextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

import streamlit as st  # noqa: E402

from qwen_vl_app import bootstrap  # noqa: E402
from qwen_vl_app.api.clips import clip_routes  # noqa: E402
from qwen_vl_app.api.conversation_exports import conversation_export_routes  # noqa: E402
from qwen_vl_app.api.dropped import dropped_routes  # noqa: E402
from qwen_vl_app.api.form_exports import form_export_routes  # noqa: E402
from qwen_vl_app.api.guard import make_middleware  # noqa: E402
from qwen_vl_app.api.parts import part_routes  # noqa: E402
from qwen_vl_app.api.records_doors import records_routes  # noqa: E402
from qwen_vl_app.api.routes import make_routes  # noqa: E402
from qwen_vl_app.api.run_exports import run_export_routes  # noqa: E402
from qwen_vl_app.api.slashes import slash_middleware  # noqa: E402
from qwen_vl_app.api.uploads import upload_routes  # noqa: E402
from qwen_vl_app.api.views import view_routes  # noqa: E402
from qwen_vl_app.config import ADDRESS, configured_port, pass_on  # noqa: E402
from qwen_vl_app.own_files import close_new_files  # noqa: E402
from qwen_vl_app.ui.browser_part import PARTS, part_scripts  # noqa: E402

DRIVER_POLL_S = 2.0
RESTART_STATUS = 75
"""What the start script takes for a wish to be started again."""


@asynccontextmanager
async def lifespan(_: st.App) -> AsyncIterator[None]:
    """Begin to load the model with the process, not with the first browser; let everything go at the end."""
    close_new_files()  # also those that a library makes
    port = st.get_option("server.port")
    if await asyncio.to_thread(listens_at, port):  # another server than Streamlit's does not tell its own
        pass_on({"port": port})  # where commands look for this app
    opening = asyncio.create_task(asyncio.to_thread(bootstrap.current_batches))
    opening.add_done_callback(asyncio.Task.exception)  # the page says what is wrong; here it is only taken note of
    watching = asyncio.create_task(_end_with_the_driver())
    yield
    watching.cancel()
    await asyncio.to_thread(bootstrap.close_current)


async def _end_with_the_driver() -> None:
    """End the process where only a new one can use the card again; what was asked is kept before."""
    while not await asyncio.to_thread(bootstrap.driver_is_lost):
        await asyncio.sleep(DRIVER_POLL_S)
    await asyncio.to_thread(bootstrap.close_current)
    os._exit(RESTART_STATUS)


app = st.App(
    Path(__file__).resolve().parent / "qwen_vl_app" / "ui" / "page.py",
    routes=[
        *make_routes(bootstrap.current),
        *view_routes(bootstrap.current),
        *upload_routes(bootstrap.current),
        *clip_routes(bootstrap.current),
        *records_routes(bootstrap.current),
        *part_routes(PARTS, part_scripts()),
        *dropped_routes(bootstrap.current, bootstrap.current_batches),
        *run_export_routes(bootstrap.current, bootstrap.current_batches),
        *form_export_routes(bootstrap.current),
        *conversation_export_routes(bootstrap.current),
    ],
    middleware=[*make_middleware(), *slash_middleware()],
    lifespan=lifespan,
)

if __name__ == "__main__":
    app.run(config={"server.address": ADDRESS, "server.port": configured_port()})
