"""Where transformers puts a BOS: the tiny model's tokenizer with other post-processors and settings beside it, a
text and a chat. Writes data/tokenizer/bos.json.

    python3 -m venv V && V/bin/pip install torch==2.15.0 transformers==5.24.0 jinja2==3.1.6
    V/bin/python3 tests/parity/make_bos.py
"""
import json
import os
import shutil
import tempfile

from transformers import AutoTokenizer

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
TINY = os.path.join(DATA, "tiny", "llama")
TEXT = "Hi there"
CHATML = ("{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + "
          "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}")
BOS, EOS = {"SpecialToken": {"id": "<s>", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}
BYTES = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}


def template(*single):
    specials = {text: {"id": text, "ids": [i], "tokens": [text]} for text, i in (("<s>", 1), ("</s>", 2))}
    return {"type": "TemplateProcessing", "single": list(single), "pair": [], "special_tokens": specials}


SEQUENCE = {"Sequence": {"id": "A", "type_id": 0}}
PROCESSORS = {
    "none": None,
    "bytes": BYTES,
    "bos": template(BOS, SEQUENCE),
    "bos in a sequence": {"type": "Sequence", "processors": [BYTES, template(BOS, SEQUENCE)]},
    "eos": template(SEQUENCE, EOS),
}
CLASSES = (None, "PreTrainedTokenizerFast", "TokenizersBackend", "LlamaTokenizer", "LlamaTokenizerFast", "GPT2Tokenizer",
           "Qwen2Tokenizer", "NoSuchTokenizer")


def case_of(processor, settings):
    with tempfile.TemporaryDirectory() as folder:
        with open(os.path.join(TINY, "tokenizer.json")) as file:
            tokenizer = json.load(file)
        tokenizer["post_processor"] = PROCESSORS[processor]
        for name, content in (("tokenizer.json", tokenizer), ("tokenizer_config.json", settings)):
            with open(os.path.join(folder, name), "w") as file:
                json.dump(content, file)
        shutil.copy(os.path.join(TINY, "config.json"), folder)
        loaded = AutoTokenizer.from_pretrained(folder)
        chat = loaded.apply_chat_template([{"role": "user", "content": TEXT}], add_generation_prompt=True,
                                          tokenize=True, return_dict=False)
        return {"processor": processor, "settings": settings, "ids": loaded(TEXT)["input_ids"], "chat": chat}


cases = []
for each in PROCESSORS:
    for name in CLASSES:
        for add in (None, True, False):
            mine = {"bos_token": "<s>", "eos_token": "</s>", "chat_template": CHATML, "tokenizer_class": name,
                    "add_bos_token": add, "add_eos_token": True if name is None else None}
            cases.append(case_of(each, {key: value for key, value in mine.items() if value is not None}))
with open(os.path.join(DATA, "tokenizer", "bos.json"), "w") as out:
    json.dump({"text": TEXT, "processors": PROCESSORS, "cases": cases}, out, indent=None)
    out.write("\n")
