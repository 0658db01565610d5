"""The engine for checkpoints on this machine's disk: the only home of torch and transformers."""

from qwen_vl_app.engine.local.engine import LocalEngine

__all__ = ["LocalEngine"]
