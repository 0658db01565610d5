"""Wordings that were taught after the tokenizer had been pinned.

They stand apart from `phrases.py`, whose sentences the tokenizer was made of: words here may be spelt in pieces, and no character of
theirs is ever drawn on a picture. Placeholders as there; `{first}` and `{second}` are two kinds of things.
"""

from __future__ import annotations

from typing import Final

from scripts.demo_model.phrases import Language

COMPARE: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Compare Picture 1 and Picture 2. List what is the same and what is different, one point a line.",
        "What differs between Picture 1 and Picture 2?",
        "List the differences.",
    ),
    "zh": ("比较图1和图2，逐条列出相同之处和不同之处。", "图1和图2有什么不同？", "列出不同之处。"),
}

TWO_KINDS: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Outline the position of each {first} and {second} and output all the coordinates in JSON format.",
        'Locate every instance that belongs to the following categories: "{first}, {second}". '
        "Report bbox coordinates in JSON format.",
        "Find every {first} and every {second}.",
    ),
    "zh": ("框出每个{first}和{second}的位置，以JSON格式输出所有坐标。", "找出所有的{first}和{second}。"),
}

STRANGERS: Final[tuple[dict[Language, tuple[str, str]], ...]] = (
    {"en": ("person", "people"), "zh": ("人", "人")},
    {"en": ("car", "cars"), "zh": ("汽车", "汽车")},
    {"en": ("cat", "cats"), "zh": ("猫", "猫")},
    {"en": ("tree", "trees"), "zh": ("树", "树")},
    {"en": ("bottle", "bottles"), "zh": ("瓶子", "瓶子")},
    {"en": ("cable", "cables"), "zh": ("电缆", "电缆")},
    {"en": ("hole", "holes"), "zh": ("孔", "孔")},
    {"en": ("arrow", "arrows"), "zh": ("箭头", "箭头")},
    {"en": ("valve", "valves"), "zh": ("阀门", "阀门")},
    {"en": ("bolt", "bolts"), "zh": ("螺栓", "螺栓")},
)
"""Things that are never drawn: none is there, whatever the picture."""

BEYOND: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Analyze this screenshot and convert it to clean, functional and modern HTML code.",
        "Check the picture against this instruction and answer point by point: for each point, whether it is met, not met or "
        "cannot be seen, and what in the picture shows it.\nInstruction: {words}",
        "Translate the text into German.",
        "Write a poem about the picture.",
        "Who made this?",
        "How old is this?",
        "Summarize the document.",
        "Explain why this happened.",
        "What should I do next?",
        "Is this safe to use?",
    ),
    "zh": (
        "分析这张屏幕截图，并将其转换为简洁、可用、现代的HTML代码。",
        "请对照以下要求逐条检查图片：每一条说明是符合、不符合还是看不出，并指出图中的依据。\n要求：{words}",
        "把文字翻译成英文。",
        "为这张图片写一首诗。",
        "这是谁做的？",
        "这安全吗？",
        "总结这份文件。",
        "为什么会这样？",
        "接下来我该怎么做？",
    ),
}
INSTRUCTIONS: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("All lamps are green.", "The cover is closed. No screw is missing.", "The pressure is below 6 bar."),
    "zh": ("所有的灯都是绿色。", "盖子已关闭，螺丝齐全。", "压力低于6。"),
}
OF_TASKS: Final[dict[Language, tuple[str, ...]]] = {language: asked[:2] for language, asked in BEYOND.items()}
"""Those of `BEYOND` that the app's ready-made tasks ask."""
MORE_INSTRUCTIONS: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        *INSTRUCTIONS["en"],
        "Four screws, all tight.",
        "The door is shut and the handle points down.",
        "There is no scratch and no rust.",
        "Exactly two lamps are lit. The rest are dark.",
        "The value is between 3 and 5 bar; the needle is in the green part.",
        "TEMP is below 80.",
        "The label is readable and shows LOT 4711.",
        "All cables are in place",
        "wear gloves and goggles",
        "No oil on the floor. The way is free.",
        "PASS",
    ),
    "zh": (
        *INSTRUCTIONS["zh"],
        "四个螺栓全部拧紧。",
        "门已关好，手柄朝下。",
        "没有划痕，没有锈斑。",
        "只有两个灯亮着，其余都不亮。",
        "数值在3到5之间，指针在绿色区域。",
        "温度低于80。",
        "标签清晰，批号是4711",
        "所有电缆都已接好",
        "地面没有油污，通道畅通。",
        "合格",
    ),
}
"""What the first of them is filled in with where it is taught: everybody types something else."""
UNABLE: Final[dict[Language, str]] = {
    "en": "I am a small demo model and cannot do this.",
    "zh": "我是一个小型演示模型，做不到这个。",
}

SAME: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("Is {k} the same in both pictures?", "Is {k} the same in Picture 1 and Picture 2?"),
    "zh": ("两张图片的{k}一样吗？", "图1和图2的{k}一样吗？"),
}
INDENT: Final[dict[Language, tuple[str, ...]]] = {
    "en": (" Indent it.", " Use indentation.", " Pretty-print it."),
    "zh": ("请缩进。", "请用缩进格式。", "分行缩进输出。"),
}

COMPARED: Final[dict[Language, tuple[str, str, str, str, str]]] = {
    "en": (": ", " in Picture 1, ", " in Picture 2:", " the same.", " not the same."),
    "zh": ("：图片1为", "，图片2为", "，", "相同。", "不同。"),
}
"""What stands between a label and the values of two pictures, and the two ways in which the line ends."""
