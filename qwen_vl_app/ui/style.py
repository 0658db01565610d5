"""The few rules that Streamlit's theme has no setting for. Everything else is native.

Only classes that our own keys make are named, never Streamlit's private ones.
"""

from __future__ import annotations

import json
from typing import Literal, TypeAlias

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from qwen_vl_app.texts import Language
from qwen_vl_app.ui.browser_part import PAGE_WIDE, rules_of
from qwen_vl_app.ui.words import Words

Colour: TypeAlias = Literal["blue", "gray", "green", "orange", "red"]
"""Of a badge."""

_RULES = """
<style>
/* A thumbnail is one button: it lies over the picture, invisible, with a ring when it has the focus. */
[class*="st-key-thumb-"] { position: relative; border-radius: 0.5rem; }
[class*="st-key-thumb-"] img { border-radius: 0.5rem; box-shadow: 0 0 0 1px rgb(128 128 128 / 30%); }
[class*="st-key-regions-"] img { max-height: 42vh; width: auto !important; max-width: 100%; }
.st-key-large-view img { max-height: 72vh; width: auto; margin: 0 auto; }
[class*="st-key-enlarge-"] { position: absolute; inset: 0; z-index: 1; }
[class*="st-key-enlarge-"] > div, [class*="st-key-enlarge-"] button { height: 100%; width: 100%; }
[class*="st-key-enlarge-"] button { opacity: 0; cursor: zoom-in; }
[class*="st-key-thumb-"]:focus-within { outline: 2px solid #2f7fd1; outline-offset: 2px; }
/* The side bar fills its height: the list takes what is left, so that what stands below it stays where it is. */
.st-key-side { height: calc(100vh - 4.6rem) !important; flex: none !important; margin: 0 -0.6rem; width: calc(100% + 1.2rem) !important; }
.st-key-side > :has(> .st-key-conversations), .st-key-conversations { flex: 1 1 0 !important; min-height: 5rem; overflow: hidden auto; }
[data-testid="stBottomBlockContainer"] { padding-bottom: 1.1rem; }
/* Nothing that is clicked there would arrive; the composer says so. */
[data-qvl-away] [data-testid="stSidebarUserContent"] { opacity: 0.55; pointer-events: none; }
[data-qvl-cut] [data-testid="stDialog"]:not(:has([data-testid="stVerticalBlock"])) { display: none; }
/* A drawn picture that can be opened is one button as well. */
[class*="st-key-regions-"] { position: relative; width: fit-content; max-width: 100%; border-radius: 0.5rem; }
[class*="st-key-look-"] { position: absolute; inset: 0; z-index: 1; }
[class*="st-key-look-"] > div, [class*="st-key-look-"] button { height: 100%; width: 100%; }
[class*="st-key-look-"] button { opacity: 0; cursor: zoom-in; }
[class*="st-key-regions-"]:focus-within { outline: 2px solid #2f7fd1; outline-offset: 2px; }
/* The grid's own CSV lets cells run as formulas; ours is under "Export". Its name goes on with the table's. */
[data-testid="stElementToolbarButton"]:has([aria-label^="Download as CSV"]) { display: none; }
/* The chosen language is told by its border and ground: blue letters on dark blue would be hard to read. */
[class*="st-key-language-"] button { color: inherit !important; }
/* A form under review: the crop never pushes the value off the screen, and the row under review is marked. */
.st-key-forms-crop img { max-height: 24vh; width: auto !important; max-width: 100%; object-fit: contain; }
.st-key-forms-picture img { max-height: 52vh; width: auto !important; max-width: 100%; }
.st-key-forms-sample img { max-height: 60vh; width: auto !important; max-width: 100%; }
.st-key-forms-fields { padding-top: 0.75rem; }
[class*="st-key-forms-row-"] { border-top: 1px solid rgb(128 128 128 / 22%); padding: 0.3rem 0.4rem; }
[class*="st-key-forms-row-now-"] { background: rgb(47 127 209 / 10%); border-radius: 0.5rem; }
[class*="st-key-forms-row-"] img { max-height: 3.2rem; width: auto !important; max-width: 100%; object-fit: contain; }
[class*="st-key-forms-choose-"] button { justify-content: flex-start; text-align: left; padding: 0; }
/* Streamlit's own hints are in English whatever the page speaks. */
[data-testid="InputInstructions"] { display: none; }
/* An empty conversation stands where one looks, not under the upper edge. */
.st-key-page:has(.st-key-welcome) { padding-top: clamp(0.5rem, 7vh, 9rem); }
/* A conversation is as wide as one likes to read, and a little wider where there is room; at 4K everything grows. */
[data-testid="stMain"]:has(.st-key-turns, .st-key-welcome) :is([data-testid="stMainBlockContainer"], [data-testid="stBottomBlockContainer"]) {
  max-width: clamp(46rem, 46vw, 74rem);
}
[class*="st-key-narrow-"] { max-width: 47.5rem; }
/* Other pages stand in the middle of a wide screen, as wide as their tables need. */
[data-testid="stMainBlockContainer"]:has(.st-key-wide-page) { max-width: 100rem; margin: 0 auto; }
[data-testid="stMainBlockContainer"]:has(.st-key-text-page) { max-width: 46rem; }
@media (min-width: 3000px) {
  html { font-size: 21px !important; }
  [data-testid="stSidebar"][data-collapsed="false"] { min-width: 22rem; }
}
/* A hit of a search: a small picture, and a title that reads from the left. */
.qvl-hit { width: 2.75rem; height: 2.75rem; object-fit: cover; border-radius: 0.35rem; display: block; }
[class*="st-key-open-hit-"] button { text-align: left; justify-content: flex-start; min-height: 1.6rem; padding: 0; }
/* Where the machine chooses the colours, what is chosen among several is told by a frame. */
@media (forced-colors: active) { [role="radio"][aria-checked="true"] { outline: 2px solid Highlight !important; outline-offset: -4px; } }
/* Very low, or magnified to 400 %: what stays at the foot would cover what one reads, and the list would be one line. */
@media (max-height: 32rem) { .st-key-side > :has(> .st-key-conversations), .st-key-conversations { min-height: 11rem; } }
@media (max-height: 20rem) { [data-testid="stBottom"] { position: static !important; } }
/* On paper stands the page, dark on light whatever the screen shows: not the side bar, not where one types. */
@media print {
  html, [data-testid="stApp"] { background: #fff !important; }
  [data-testid="stMain"], [data-testid="stMain"] * {
    color: #0b1016 !important; --st-text-color: #0b1016 !important; --st-background-color: #fff !important;
    --st-secondary-background-color: #f3f5f8 !important; --st-border-color: #d9dfe7 !important;
  }
  [data-testid="stMain"], [data-testid="stMain"] :not([class*="qvl-"], [class*="qvl-"] *) { background-color: transparent !important; }
  [data-testid="stSidebar"], [data-testid="stHeader"], [data-testid="stBottom"], [data-testid="stToolbar"] { display: none !important; }
  [data-testid="stMain"] [data-testid="stMainBlockContainer"] { max-width: none; padding: 0; }
}
@media (prefers-reduced-motion: reduce) { * { animation: none !important; transition: none !important; } }
</style>
"""
_UPLOADER = """
<style>
/* An uploader's own words are English and have no setting: the page's stand in their place. */
[data-testid="stFileUploaderDropzone"] button [data-testid="stMarkdownContainer"] > * { display: none; }
[data-testid="stFileUploaderDropzone"] button [data-testid="stMarkdownContainer"]::after { content: CHOOSE; }
[data-testid="stFileUploaderDropzoneInstructions"] { display: none; }
[data-testid="stFileUploaderDropzoneInput"] + div > * { display: none; } /* there while a file is dragged over it */
[data-testid="stFileUploaderDropzoneInput"] + div::after { content: DROP; }
</style>
"""


def reading_column(name: str) -> DeltaGenerator:
    """Return a container no wider than one likes to read, which grows with the type; `name` is its own on a page."""
    return st.container(key=f"narrow-{name}")


def apply_style(words: Words) -> None:
    """Add the rules to the page, as one element in every language."""
    rules = f"{_RULES}<style>{''.join(map(rules_of, PAGE_WIDE))}</style>"
    if words.language is not Language.ENGLISH:
        # A string of JSON is one of CSS.
        choose, drop = (json.dumps(words(f"upload.{name}"), ensure_ascii=False) for name in ("choose", "drop"))
        rules += _UPLOADER.replace("CHOOSE", choose).replace("DROP", drop)
    st.html(rules)
