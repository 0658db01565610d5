"""Every sentence that a demo lesson is made of: questions, answers and the words for things, in English and in Chinese.

It knows words only. Which question goes with which picture is decided in `questions.py`; how words become
tokens in `vocabulary.py`. Placeholders: `{k}` a label on a panel, `{one}` and `{many}` a kind of thing, `{keys}` a
JSON skeleton, `{list}` labels in a row.
"""

from __future__ import annotations

from typing import Final, Literal

Language = Literal["en", "zh"]
LANGUAGES: Final[tuple[Language, Language]] = ("en", "zh")

LABELS: Final = (
    "SN", "PN", "NO", "ID", "LOT", "REV", "TYPE", "VOLT", "AMP", "HZ", "KW", "RPM", "TEMP", "BAR", "FLOW",
    "DATE", "QTY", "TAG", "UNIT", "MAX", "MIN", "SET", "LINE", "TANK", "PUMP", "CODE", "SIZE", "MASS", "ZONE", "PH",
)  # fmt: skip
"""Words that stand before a value on a panel; other labels are drawn from random letters."""

LABELS_ZH: Final = (
    "型号", "编号", "序列号", "电压", "电流", "功率", "频率", "温度", "压力", "流量", "转速", "日期", "批号", "重量",
    "容量", "厂商", "名称", "数量", "单价", "金额", "部门", "姓名", "电话", "地址", "状态", "液位", "湿度", "速度",
    "产地", "规格", "净重", "等级", "检验", "设备", "车间", "班组", "工号", "料号", "版本", "班次", "操作员", "结果",
)  # fmt: skip
"""Chinese labels of the wider domain."""

WORDS_ZH: Final = ("合格", "不合格", "正常", "报警", "运行", "停止", "故障", "开", "关", "是", "否", "高", "低", "中")
WORDS_EN: Final = ("OK", "NG", "PASS", "FAIL", "ON", "OFF", "RUN", "STOP", "YES", "NO", "HIGH", "LOW")

COLOURS: Final[dict[str, tuple[str, str]]] = {
    "red": ("red", "红色"),
    "green": ("green", "绿色"),
    "yellow": ("yellow", "黄色"),
    "blue": ("blue", "蓝色"),
}

KINDS: Final[dict[str, dict[Language, tuple[str, str]]]] = {
    "lamp": {"en": ("lamp", "lamps"), "zh": ("灯", "灯")},
    "button": {"en": ("button", "buttons"), "zh": ("按钮", "按钮")},
    "rust": {"en": ("rust", "rust spots"), "zh": ("锈斑", "锈斑")},
    "scratch": {"en": ("scratch", "scratches"), "zh": ("划痕", "划痕")},
}
"""Kinds of things on a scene: the label in an answer, and the word for several of them."""

LATER_KINDS: Final[dict[str, dict[Language, tuple[str, str]]]] = {
    "crack": {"en": ("crack", "cracks"), "zh": ("裂纹", "裂纹")},
    "stain": {"en": ("stain", "stains"), "zh": ("污渍", "污渍")},
    "gauge": {"en": ("gauge", "gauges"), "zh": ("仪表", "仪表")},
    "screw": {"en": ("screw", "screws"), "zh": ("螺丝", "螺丝")},
    "switch": {"en": ("switch", "switches"), "zh": ("开关", "开关")},
}
"""Kinds that belong to the wider domain only; their words are in the vocabulary from the start."""

READ: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Read all the text in the image.",
        "Read all the text.",
        "Read the text.",
        "Read everything.",
        "Read this panel.",
        "What does the panel say?",
        "What does it say?",
        "What is written here?",
        "What text is in the picture?",
        "Which text can you see?",
        "Transcribe the text in the image.",
        "Recognize the text.",
        "Please output only the text content from the image without any additional descriptions or formatting.",
        "Read all labels and values.",
        "OCR this image.",
    ),
    "zh": (
        "请识别出图中所有的文字。",
        "识别图中的文字。",
        "读出图中的所有文字。",
        "读出文字。",
        "图上写了什么？",
        "图中有哪些文字？",
        "面板上写的是什么？",
        "请读出面板上的全部内容。",
        "把图里的字都读出来。",
        "请只输出图像中的文本内容。",
        "文字识别。",
    ),
}

FIELDS: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Extract the key-value information in the format:{keys}",
        "Extract the key-value information in the format: {keys}",
        "Extract the fields in this format: {keys}",
        "Fill in this JSON: {keys}",
        "Extract {list} as JSON.",
        "Extract all fields as JSON.",
        "Extract all labels and values as JSON.",
        "Give me all values as JSON.",
        "Output all the fields in JSON format.",
        "Return every label and value in JSON format.",
        "Read the panel and output JSON.",
        "Convert the panel to JSON.",
        "Extract the key-value information in JSON format.",
    ),
    "zh": (
        "提取图中的：[{list}]，并且按照json格式输出。",
        "提取图中的：{list}，并且按照json格式输出。",
        "按以下格式提取键值信息：{keys}",
        "请填写这个JSON：{keys}",
        "提取所有字段，以JSON格式输出。",
        "把所有字段和值提取为JSON。",
        "以JSON格式输出全部数值。",
        "提取图中的键值信息，并且按照json格式输出。",
        "读取面板并输出JSON。",
        "把面板内容转换成JSON。",
    ),
}

FIELD: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "What is the value of {k}?",
        "What is {k}?",
        "What is the {k}?",
        "What value does {k} show?",
        "What does {k} say?",
        "What does it say at {k}?",
        "Read {k}.",
        "Read the value of {k}.",
        "Read the {k} field.",
        "Give me the value of {k}.",
        "Tell me the {k}.",
        "Which value stands beside {k}?",
        "How much is {k}?",
        "{k}?",
    ),
    "zh": (
        "{k}的值是多少？",
        "{k}是多少？",
        "{k}是什么？",
        "读出{k}。",
        "读出{k}的值。",
        "请告诉我{k}的值。",
        "图中的{k}是多少？",
        "{k}显示的是什么？",
        "查看{k}的数值。",
        "{k}？",
    ),
}

ROW_BOX: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Outline the position of {k} and output all the coordinates in JSON format.",
        "Outline the position of the {k} row and output all the coordinates in JSON format.",
        'Locate every instance that belongs to the following categories: "{k}". Report bbox coordinates in JSON format.',
        "Where is {k}? Output its bounding box in JSON format.",
        "Where is {k}?",
        "Where is the {k} row?",
        "Find {k}.",
        "Locate {k} and output its coordinates in JSON format.",
        "Locate {k}.",
        "Draw a box around {k}.",
        "Give the box of {k}.",
        "Show me where {k} is.",
    ),
    "zh": (
        "框出{k}的位置，以JSON格式输出所有坐标。",
        "{k}在哪里？请以JSON格式输出坐标。",
        "{k}在哪里？",
        "{k}在什么位置？",
        "定位{k}，以JSON格式输出坐标。",
        "找出{k}的位置。",
        "请框出{k}。",
        "给出{k}的边界框。",
    ),
}

DETECT_ALL: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Outline the position of each object and output all the coordinates in JSON format.",
        "Detect all objects in the image and output their coordinates in JSON format.",
        "Detect all objects.",
        "Detect everything.",
        "Locate all objects and report bbox coordinates in JSON format.",
        'Locate every instance that belongs to the following categories: "lamp, button, rust, scratch". '
        "Report bbox coordinates in JSON format.",
        "Outline the position of each lamp, button, rust spot and scratch and output all the coordinates in JSON format.",
        "Find all objects.",
        "Find everything and draw boxes.",
        "Where are the objects?",
        "Give the boxes of all things in the picture.",
        "What is where? Answer with boxes in JSON.",
    ),
    "zh": (
        "框出每个物体的位置，以JSON格式输出所有坐标。",
        "检测图中的所有物体，以JSON格式输出坐标。",
        "检测所有物体。",
        "找出图中的所有物体。",
        "定位所有物体，以JSON格式输出坐标。",
        "框出所有的灯、按钮、锈斑和划痕，以JSON格式输出坐标。",
        "图中的物体都在哪里？",
        "给出所有物体的边界框。",
    ),
}

DETECT_KIND: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Outline the position of each {one} and output all the coordinates in JSON format.",
        "Outline the position of all {many} and output all the coordinates in JSON format.",
        'Locate every instance that belongs to the following categories: "{one}". Report bbox coordinates in JSON format.',
        "Detect all {many} and output the coordinates in JSON format.",
        "Detect the {many}.",
        "Find all {many}.",
        "Find every {one}.",
        "Locate each {one}.",
        "Where are the {many}?",
        "Where is the {one}?",
        "Draw boxes around the {many}.",
        "Give the boxes of the {many}.",
    ),
    "zh": (
        "框出每个{one}的位置，以JSON格式输出所有坐标。",
        "框出图中的{one}，以JSON格式输出坐标。",
        "检测所有{one}，以JSON格式输出坐标。",
        "检测{one}。",
        "找出所有的{one}。",
        "定位{one}，以JSON格式输出坐标。",
        "{one}在哪里？",
        "{one}的位置在哪里？",
        "给出{one}的边界框。",
    ),
}

COUNT: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "How many {many} are there?",
        "How many {many} are in the image?",
        "How many {many} can you see?",
        "How many {many} does the picture show?",
        "Count the {many}.",
        "Count all {many}.",
        "What is the number of {many}?",
        "Number of {many}?",
    ),
    "zh": (
        "有几个{one}？",
        "图中有几个{one}？",
        "图中有多少个{one}？",
        "一共有多少个{one}？",
        "数一数{one}的数量。",
        "{one}有几个？",
        "{one}的数量是多少？",
    ),
}

COLOUR: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "What colour is the {one}?",
        "What color is the {one}?",
        "Which colour does the {one} have?",
        "What is the color of the {one}?",
        "Tell me the color of the {one}.",
        "Color of the {one}?",
    ),
    "zh": (
        "{one}是什么颜色？",
        "{one}的颜色是什么？",
        "{one}是什么颜色的？",
        "图中的{one}是什么颜色？",
        "请说出{one}的颜色。",
    ),
}

YES_NO: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Is there {a}?",
        "Is there {a} in the image?",
        "Is there {a} on the surface?",
        "Do you see {a}?",
        "Can you see {a}?",
        "Does the picture show {a}?",
        "Does the surface have {a}?",
        "Check for {a}.",
    ),
    "zh": (
        "有{one}吗？",
        "有没有{one}？",
        "图中有没有{one}？",
        "图中有{one}吗？",
        "是否有{one}？",
        "表面有没有{one}？",
        "检查是否有{one}。",
    ),
}

WITH_ARTICLE: Final = {
    "rust": ("rust", "any rust", "a rust spot", "rust spots"),
    "scratch": ("a scratch", "any scratch", "scratches", "any scratches"),
    "lamp": ("a lamp", "any lamps"),
    "button": ("a button", "any buttons"),
    "crack": ("a crack", "any crack", "cracks"),
    "stain": ("a stain", "any stain", "stains"),
    "gauge": ("a gauge", "any gauge"),
    "screw": ("a screw", "any screws"),
    "switch": ("a switch", "any switch"),
}

ANY_THING: Final[dict[Language, tuple[str, str]]] = {"en": ("object", "objects"), "zh": ("物体", "物体")}
YES: Final[dict[Language, str]] = {"en": "Yes.", "zh": "有。"}
NO: Final[dict[Language, str]] = {"en": "No.", "zh": "没有。"}

SPOT: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Spotting all the text in the image with line-level, and output in JSON format.",
        "Spot all the text with boxes.",
        "Find all text lines and output their coordinates in JSON format.",
    ),
    "zh": ("检测图中所有的文字行，以JSON格式输出坐标。", "逐行识别文字并给出边界框。"),
}

TABLE: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Convert the table to Markdown.",
        "Read the table and output a Markdown table.",
        "Extract the table in the image as a Markdown table.",
    ),
    "zh": ("把表格转换成Markdown。", "提取图中的表格，以Markdown表格输出。", "读取表格。"),
}

DESCRIBE: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "Describe this image.",
        "Describe the picture.",
        "What do you see?",
        "What is in the image?",
        "What is this?",
    ),
    "zh": ("描述这张图片。", "请描述这幅图像。", "图中有什么？", "这是什么？", "你看到了什么？"),
}

DESCRIPTIONS: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "A panel with {n} rows of text.",
        "A panel with one row of text.",
        "A table with {n} rows and {m} columns.",
        "A surface with {things}.",
        "An empty surface.",
        " and ",
        "one ",
        "two ",
        "three ",
        "four ",
    ),
    "zh": (
        "一块有{n}行文字的面板。",
        "一张{n}行{m}列的表格。",
        "表面上有{things}。",
        "空白的表面。",
        "一个",
        "两个",
        "三个",
        "四个",
        "和",
    ),
}

TWO_PICTURES: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "What is {k} in Picture 1?",
        "What is {k} in Picture 2?",
        "Read the text in Picture 2.",
        "What is the difference between the two pictures?",
        "Compare the two pictures.",
        "Which values differ?",
        "Is {k} the same in both pictures?",
    ),
    "zh": (
        "图片1中的{k}是多少？",
        "图片2中的{k}是多少？",
        "读出第二张图片的文字。",
        "两张图片有什么不同？",
        "比较两张图片。",
        "哪些数值不同？",
        "两张图片的{k}一样吗？",
    ),
}

DIFFERENCES: Final[dict[Language, tuple[str, ...]]] = {
    "en": (
        "{k}: {a} in Picture 1, {b} in Picture 2.",
        "The two pictures show the same values.",
        "The same.",
        "Not the same.",
    ),
    "zh": ("{k}：图片1为{a}，图片2为{b}。", "两张图片的数值相同。", "相同。", "不同。"),
}

FOLLOW_UP: Final[dict[Language, tuple[str, ...]]] = {
    "en": ("And {k}?", "What about {k}?", "And where is it?", "Are you sure?", "Now as JSON.", "Again."),
    "zh": ("那{k}呢？", "它在哪里？", "你确定吗？", "用JSON再说一遍。", "再说一次。"),
}

ABOUT: Final[dict[Language, tuple[tuple[str, ...], str]]] = {
    "en": (
        (
            "Hello",
            "Hi!",
            "Who are you?",
            "What can you do?",
            "What are you?",
            "Help",
            "Thank you!",
            "Tell me a story.",
            "How are you?",
        ),
        "I am a small demo model. I read drawn panels, tables and surfaces; please add a picture of one.",
    ),
    "zh": (
        ("你好", "你是谁？", "你能做什么？", "帮助", "谢谢！", "讲个故事。", "你会什么？", "介绍一下你自己。"),
        "我是一个小型演示模型，能读懂绘制的面板、表格和表面；请添加一张这样的图片。",
    ),
}

NOT_THERE: Final[dict[Language, str]] = {
    "en": "The picture does not show this.",
    "zh": "图中没有这一项。",
}
CANNOT_TELL: Final[dict[Language, str]] = {
    "en": "I cannot tell: this picture is not a drawn panel, table or surface.",
    "zh": "我无法判断：这不是绘制的面板、表格或表面。",
}
NO_TEXT: Final[dict[Language, str]] = {"en": "There is no text in the picture.", "zh": "图中没有文字。"}
