"""Holding an answer to a JSON Schema while it is written: before each token, those that could not go on to fit are ruled out.

Knows the grammar library, tokens' bytes and one row of logits. Does not know which rules of a schema can be held to
(`form_rules` does), nor what the values mean. The library is optional: where it does not import or fails a small test of its
work, answers are written freely, and that is said.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from qwen_vl_app.engine.form_rules import form_rules
from qwen_vl_app.engine.json_schemas import UnenforceableError
from qwen_vl_app.engine.local.tokens import TextTokens
from qwen_vl_app.errors import Reason

log = logging.getLogger(__name__)

MOST_GRAMMARS = 64
MOST_GRAMMAR_BYTES = 128 * 2**20
_BITS = 32


@dataclass(frozen=True, slots=True)
class Grammar:
    """A schema made ready for one model's tokens."""

    compiled: Any
    notes: tuple[Reason, ...]
    nbytes: int


class Grammars:
    """The grammars of one loaded model, the last ones used kept."""

    def __init__(self, tokens: TextTokens, *, vocabulary: int, end_tokens: Iterable[int]) -> None:
        """Prepare for a model whose logits have `vocabulary` numbers, the padding behind its last token included."""
        self._held: OrderedDict[tuple[str, bool], Grammar] = OrderedDict()
        self._tokens = tokens
        self._vocabulary = vocabulary
        self._end_tokens = frozenset(end_tokens)
        self._library: Any = None
        self._tokenizer: Any = None
        try:
            import xgrammar  # noqa: PLC0415 - it is optional, and only here can its absence be told

            self._library = xgrammar if _works(xgrammar) else None
        except Exception:  # a library that is missing, built for something else or broken: each only means, not here
            log.warning("answers cannot be held to a schema here", exc_info=True)
        self.reason = Reason("engine.form.grammar" if self.works else "engine.form.no_grammar")
        """What was chosen."""

    @property
    def works(self) -> bool:
        """Whether answers can be held to a schema."""
        return self._library is not None

    def hold(self, schema: str | None, *, is_open: bool = False) -> HeldForm | None:
        """Return what holds one answer to a schema; None where there is none.

        Where it `is_open`, properties may come in any order and be left out.
        """
        if schema is None:
            return None
        if self._library is None:
            return HeldForm(None, None, (Reason("engine.form.no_grammar"),), 0)
        key = (schema, is_open)
        grammar = self._held.get(key)
        if grammar is None:
            grammar = self._made(schema, is_open=is_open)
            self._held[key] = grammar
            while len(self._held) > MOST_GRAMMARS or self.nbytes > MOST_GRAMMAR_BYTES:
                self._held.popitem(last=False)
        else:
            self._held.move_to_end(key)
        matcher = None if grammar.compiled is None else self._library.GrammarMatcher(grammar.compiled)
        return HeldForm(self._library, matcher, grammar.notes, self._vocabulary)

    @property
    def nbytes(self) -> int:
        """Memory held."""
        return sum(grammar.nbytes for grammar in self._held.values())

    def _made(self, schema: str, *, is_open: bool) -> Grammar:
        if self._tokenizer is None:
            # Control tokens have no bytes, and neither has the padding: no grammar lets them in.
            vocabulary = [self._tokens.bytes_of(token) for token in range(self._vocabulary)]
            self._tokenizer = _tokenizer(self._library, vocabulary, end_tokens=self._end_tokens)
        try:
            rules = form_rules(schema, is_open=is_open)
            compiled = _compiled(self._library, self._tokenizer, rules.schema, is_open=is_open)
        except UnenforceableError as error:
            return Grammar(None, (Reason("engine.form.not_enforced", rule=error.rule),), 0)
        except RuntimeError as error:  # the library's only kind; its words are about its own source code
            log.warning("no grammar for a schema: %s", error)
            return Grammar(None, (Reason("engine.form.not_enforced", rule="schema"),), 0)
        notes = (Reason("engine.form.relaxed", rules=", ".join(rules.relaxed)),) if rules.relaxed else ()
        return Grammar(compiled, notes, int(compiled.memory_size_bytes))


class HeldForm:
    """Holds one answer to its schema, from the first token to the last. Without a grammar it lets everything through."""

    def __init__(self, library: Any, matcher: Any, notes: tuple[Reason, ...], vocabulary: int) -> None:
        self._library = library
        self._matcher = matcher
        self._notes = notes
        self._words = -(-vocabulary // _BITS)
        self._vocabulary = vocabulary
        self._mask = torch.zeros((1, self._words), dtype=torch.int32)
        self._is_filled = False
        self.is_over = False
        """Whether the answer is whole, and nothing but its end may follow."""
        self._is_whole = False
        if matcher is not None:
            self._ends = np.zeros(self._words * _BITS, dtype=np.uint8)
            self._ends[np.array(matcher.stop_token_ids, dtype=np.int64)] = 1
            self._ends = np.packbits(self._ends, bitorder="little").view(np.uint32)

    @property
    def notes(self) -> tuple[Reason, ...]:
        """What a person should know once the answer has ended: rules that were not enforced, and where it was cut."""
        if self._matcher is None or self._is_whole:
            return self._notes
        return (*self._notes, Reason("engine.form.cut"))

    def narrowed(self, logits: torch.Tensor) -> torch.Tensor | None:
        """Return float logits `(vocabulary,)` in which only what may follow is possible; None where nothing may.

        Asked for only once the model's own step is under way, so that a card and this work at the same time.
        """
        if self._matcher is None:
            return logits
        self._fill()
        if not self._mask.numpy().any():
            return None
        narrowed = logits.float().clone()
        if narrowed.device.type == "cpu":
            self._library.matcher.apply_token_bitmask_inplace(narrowed[None], self._mask, backend="cpu")
            return narrowed
        # The library's own kernel for cards needs a compiler on the user's machine.
        mask = self._mask.to(narrowed.device, non_blocking=True)
        bits = (mask.view(-1, 1) >> torch.arange(_BITS, device=narrowed.device, dtype=torch.int32)) & 1
        return narrowed.masked_fill_(bits.view(-1)[: narrowed.shape[0]] == 0, float("-inf"))

    def accept(self, token: int) -> None:
        """Take the token that was chosen."""
        if self._matcher is None:
            return
        if not self._matcher.accept_token(token):
            raise RuntimeError(f"the grammar let token {token} through and then refused it")
        self._is_filled = False
        is_ended = bool(self._matcher.is_terminated())
        self._is_whole = is_ended or bool(self._matcher.is_completed())
        # Where nothing but the end may follow, the model need not be asked for it.
        self.is_over = is_ended or (self._is_whole and self._is_only_end())

    def cut(self) -> None:
        """Take note that the text ends before the last token does: a stop text may be the very end of a form."""
        self._is_whole = False

    def _is_only_end(self) -> bool:
        self._fill()
        return not (self._mask.numpy().view(np.uint32)[0] & ~self._ends).any()

    def _fill(self) -> None:
        if not self._is_filled:
            self._matcher.fill_next_token_bitmask(self._mask)
            self._is_filled = True


def _tokenizer(library: Any, vocabulary: list[bytes], *, end_tokens: Iterable[int]) -> Any:
    return library.TokenizerInfo(
        vocabulary, library.VocabType.RAW, vocab_size=len(vocabulary), stop_token_ids=sorted(end_tokens)
    )


def _compiled(library: Any, tokenizer: Any, schema: str, *, is_open: bool = False) -> Any:
    # A compiler of its own each time: one that is kept shares parts between schemas, which is a cache more than is needed.
    compiler = library.GrammarCompiler(tokenizer, max_threads=1, cache_enabled=False)
    return compiler.compile_json_schema(schema, any_whitespace=False, strict_mode=True, any_order=is_open)


def _works(library: Any) -> bool:
    """Return whether the library, as built here, lets in what fits and nothing else."""
    vocabulary = [*(bytes([sign]) for sign in range(0x20, 0x7F)), b"null", b"", b"", b""]
    end = vocabulary.index(b"")
    tokenizer = _tokenizer(library, vocabulary, end_tokens=[end])
    schema = {"type": "object", "properties": {"a": {"type": ["integer", "null"]}}, "required": ["a"]}
    matcher = library.GrammarMatcher(_compiled(library, tokenizer, json.dumps(schema)))
    held = HeldForm(library, matcher, (), len(vocabulary))
    for sign in b'{"a": ':
        held.accept(vocabulary.index(bytes([sign])))
    narrowed = held.narrowed(torch.zeros(len(vocabulary)))
    possible = [] if narrowed is None else torch.isfinite(narrowed).nonzero().view(-1).tolist()
    held.accept(vocabulary.index(b"null"))
    held.accept(vocabulary.index(b"}"))
    return {vocabulary[token] for token in possible} == {
        b"null",
        *(b"%c" % sign for sign in b"-0123456789n"),
    } and held.is_over
