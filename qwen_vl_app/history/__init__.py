"""What a user keeps: conversations, turns and their pictures, in one folder of one machine.

Hands out words (`Turn`, `Conversation`), never rows. Does not know models, pages, or what a picture shows.
"""

from qwen_vl_app.history.answer_cache import AnswerCache, answer_key
from qwen_vl_app.history.audit import AuditReport
from qwen_vl_app.history.erase import OtherRecords
from qwen_vl_app.history.keeping import Keeping, KeepingMode
from qwen_vl_app.history.picture_files import PictureBytes
from qwen_vl_app.history.store import HistoryStore

__all__ = [
    "AnswerCache",
    "AuditReport",
    "HistoryStore",
    "Keeping",
    "KeepingMode",
    "OtherRecords",
    "PictureBytes",
    "answer_key",
]
