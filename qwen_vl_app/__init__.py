"""An offline visual assistant: Qwen-VL in one process, a page and a command line in front of it."""

__version__ = "0.1.0"
