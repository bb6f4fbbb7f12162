"""Reference token ids from PyPI's tokenizers (0.23.3): small byte-level BPE with the pre-tokenizers of GPT-2,
Llama 3 and SmolLM, on texts of every kind. Writes data/tokenizer/NAME/{tokenizer.json,cases.jsonl}.

    python3 -m venv V && V/bin/pip install tokenizers==0.23.3 && V/bin/python3 tests/parity/make_tokenizer.py
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PRE_TOKENIZERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
    "llama3": pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "smollm": pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
}
PIECES = ["the", " and", "I'LL", "we're", "don't", "it'S", " 1234", "٣٤٥", "½", "²", "Ⅷ", "中文字符", "日本", "ру́сский",
          "e\u0301", "naïve", "🙂", "👩‍👩‍👧", "\t", "\n", "\r\n", "  ", "   \n ", "\u00a0", "\u2028", "\u180e", "\u3000",
          "\u0000", "...", "!?", "_x_", "(a)", "http://a.b/c?d=1", "<|end|>", "<keep>", " <|end|> ", "ﬁ", "K", "ß",
          "\u200b", "á", "अनुच्छेद", "กขค", "x=1;\n\n\n\ty", "'", "''s", " 's", "'LL"]


def texts(draw):
    yield ""
    yield from PIECES
    for _ in range(120):
        yield "".join(draw.choice(PIECES) for _ in range(draw.randint(1, 12)))
    for _ in range(60):
        yield "".join(chr(draw.choice([draw.randint(32, 126), draw.randint(0xa0, 0x24f),
                                       draw.randint(0x370, 0x1fff), draw.randint(0x2000, 0x2fff),
                                       draw.randint(0x4e00, 0x4fff), draw.randint(0x1f300, 0x1f5ff)]))
                      for _ in range(draw.randint(1, 24)))


def make(name, pre_tokenizer):
    draw = random.Random(name)
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text for text in texts(draw) for _ in range(3)], trainer)
    tokenizer.add_tokens([AddedToken("<keep>", special=False, lstrip=name == "gpt2", rstrip=name == "smollm")])
    folder = os.path.join(DATA, "tokenizer", name)
    os.makedirs(folder, exist_ok=True)
    tokenizer.save(os.path.join(folder, "tokenizer.json"), pretty=False)
    with open(os.path.join(folder, "cases.jsonl"), "w") as file:
        for text in texts(random.Random(name + " cases")):
            ids = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = False
            case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
            if plain != ids:
                case["ids_plain"] = plain
            file.write(json.dumps(case) + "\n")


for name, pre_tokenizer in PRE_TOKENIZERS.items():
    make(name, pre_tokenizer)
