"""The walls around a page that a model wrote: the policies of its frame, and its source without ways to other machines.

Knows what browsers ask no policy about: names, early connections, and calls between browsers (WebRTC). One thing stays open,
and the page says so before scripts run: a script that sends its own frame elsewhere is stopped, but Chromium looks the name
up and connects before it asks whether it may. Does not know whose page it is.
"""

from __future__ import annotations

import re

_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'self'"
)
PAGE_POLICY = f"sandbox; {_POLICY}"
SCRIPTS_POLICY = (
    "sandbox allow-scripts; script-src 'unsafe-inline'; "
    f"require-trusted-types-for 'script'; trusted-types default; {_POLICY}"
)
_HEAD = '<!doctype html><meta charset="utf-8"><base target="_blank">'
"""Links then want a window of their own, which the sandbox gives to nobody."""
_KEPT_OUT = "link|meta|base|iframe|frame|frameset|object|embed|portal|fencedframe|applet"
"""Tags that ask for names and connections ahead of any policy, lead elsewhere, or make a window that has what was taken away."""
_TAG = re.compile(rf"<(?=(?:{_KEPT_OUT})\b)", re.I)
_TAG_OR_STYLE = re.compile(r"<style\b.*?(?:</style|\Z)|<[a-z!/][^>]*>", re.I | re.S)
_OUTSIDE = re.compile(r"(?:\b(?:https?|ftp|wss?):|(?<![:\w+/])(?<!base64,))[\\/]{2}(?=[^\s\\/])", re.I)
_TARGET = re.compile(r"\btarget(?=\s*=)", re.I)
# Runs before anything of the page. What a script could change later (methods of prototypes) is held or frozen here.
_FIRST = """<script>(() => {
  const { apply } = Reflect, { toLowerCase, replace } = String.prototype;
  const names = "%s".split("|"), tag = /<(?=(?:%s)\\b)/gi;
  for (const name of ["RTCPeerConnection", "webkitRTCPeerConnection", "WebTransport", "XSLTProcessor"]) delete window[name];
  delete DOMImplementation.prototype.createDocument;
  const kept = (name) => {
    const text = apply(toLowerCase, `${name}`, []);
    for (let at = 0; at < names.length; at += 1) {
      if (text === names[at]) return "x-none";
    }
    return `${text}`;
  };
  const { createElement, createElementNS } = Document.prototype;
  Document.prototype.createElement = function (name, options) { return apply(createElement, this, [kept(name), options]); };
  Document.prototype.createElementNS = function (space, name, options) {
    const text = `${name}`;
    let local = "";
    for (let at = 0; at < text.length; at += 1) local = text[at] === ":" ? "" : local + text[at];
    return apply(createElementNS, this, [space, kept(local) === "x-none" ? "x-none" : text, options]);
  };
  Object.freeze(RegExp.prototype);
  if (window.trustedTypes) {
    trustedTypes.createPolicy("default", {
      createHTML: (text) => apply(replace, text, [tag, "<x-"]), createScript: (text) => text, createScriptURL: () => null,
    });
  }
})();</script>""" % (_KEPT_OUT, _KEPT_OUT)  # noqa: UP031 - braces are the script's


def walled_in(source: str, *, runs: bool) -> str:
    """Return a page whose tags and styles name no other machine; with `runs` its scripts find no way there either.

    A broken picture then shows its words, and a link does nothing. The policy is the wall; this keeps a browser from even
    trying, and closes what no policy closes.
    """

    def without(tag: re.Match[str]) -> str:
        return _TARGET.sub("data-target", _OUTSIDE.sub("data:,", tag[0]))

    source = source.encode("utf-8", "replace").decode()
    inside = _TAG.sub("<x-", _TAG_OR_STYLE.sub(without, source))
    return f"{_HEAD}{_FIRST if runs else ''}{inside}"
