"""Reference token ids from PyPI's tokenizers (0.23.3): small byte-level BPE with the pre-tokenizers of GPT-2,
Llama 3 and SmolLM, and with every behavior of Split, on texts of every kind; the tiny models' tokenizer too.
Writes data/tokenizer/NAME/{tokenizer.json,cases.jsonl} and data/tokenizer/tiny.jsonl. make_tokenizer_more.py has the
other kinds, and the texts are from here.

    python3 -m venv V && V/bin/pip install tokenizers==0.23.3 && V/bin/python3 tests/parity/make_tokenizer.py
"""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
          r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|"
          r"\s*[\r\n]|\s+(?!\S)|\s")


def split(pattern, behavior, invert=False):
    return pre_tokenizers.Split(pattern, behavior=behavior, invert=invert)


PRE_TOKENIZERS = {
    "gpt2": pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    "prefix": pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=True),
    "llama3": pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated", invert=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "smollm": pre_tokenizers.Sequence([
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]),
    "removed": pre_tokenizers.Sequence([ # what GPT-4's tokenizer is converted to; saved in the old spelling
        split(Regex(CL100K), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
    "splits": pre_tokenizers.Sequence([
        split(Regex(r"(?=[A-Z])"), "isolated"),
        split(".", "merged_with_previous"),
        split(Regex(r"[^\S\n]+"), "merged_with_next"),
        split(Regex(r"\p{Han}"), "contiguous"),
        split(Regex(r"\h{2}"), "merged_with_previous", invert=True),
        split(Regex(r"[\w]*<|>|^_|x*"), "isolated"),
        split("\t", "removed"),
        pre_tokenizers.Digits(individual_digits=False),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]),
}
PIECES = ["the", " and", "I'LL", "we're", "don't", "it'S", " 1234", "٣٤٥", "½", "²", "Ⅷ", "中文字符", "日本", "ру́сский",
          "e\u0301", "naïve", "🙂", "👩‍👩‍👧", "\t", "\n", "\r\n", "  ", "   \n ", "\u00a0", "\u2028", "\u180e", "\u3000",
          "\u0000", "...", "!?", "_x_", "(a)", "http://a.b/c?d=1", "<|end|>", "<keep>", " <|end|> ", "ﬁ", "K", "ß",
          "\u200b", "á", "अनुच्छेद", "กขค", "x=1;\n\n\n\ty", "'", "''s", " 's", "'LL"]

MORE_PIECES = PIECES + ["<|end|>x", "a<|end|>", "a<|", "<|end|", "keep|", "<keep|>", "  <b>\u3000", "<b>", "HelloWorldABC", "a.b..c", "\t\t",
                        "1²٣½", "it'ſ", "'LL'RE", "ca fe BEEF", "x\nxx", "_a_\n_b", "中、文", "\u202f", "\r", "\r\r\n", "१२३", "12345678",
                        "a\u0301_‿b", "\u0085", "\ufeff", "\U0010ffff", "\ud7ff"]
MORE_TOKENS = [AddedToken("a<|", normalized=True), AddedToken("keep|", normalized=False), AddedToken("<|end|", normalized=False),
               AddedToken("<b>", normalized=False, lstrip=True, rstrip=True), AddedToken("\u3000<b>", normalized=True)]


def texts(draw, pieces):
    yield ""
    yield from pieces
    for _ in range(120):
        yield "".join(draw.choice(pieces) for _ in range(draw.randint(1, 12)))
    for _ in range(60):
        yield "".join(chr(draw.choice([draw.randint(32, 126), draw.randint(0xa0, 0x24f),
                                       draw.randint(0x370, 0x1fff), draw.randint(0x2000, 0x2fff),
                                       draw.randint(0x4e00, 0x4fff), draw.randint(0x1f300, 0x1f5ff)]))
                      for _ in range(draw.randint(1, 24)))


def write_cases(tokenizer, path, cases):
    with open(path, "w") as file:
        for text in cases:
            ids = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = True
            plain = tokenizer.encode(text).ids
            tokenizer.encode_special_tokens = False
            case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
            if plain != ids:
                case["ids_plain"] = plain
            file.write(json.dumps(case) + "\n")


def save_in_old_spelling(tokenizer, path):
    content = json.loads(tokenizer.to_str())
    del content["model"]["type"]
    content["model"]["merges"] = [" ".join(pair) for pair in content["model"]["merges"]]
    with open(path, "w") as file:
        json.dump(content, file, ensure_ascii=False)


def make(name, pre_tokenizer):
    draw = random.Random(name)
    is_new = name in ("removed", "splits")
    pieces = MORE_PIECES if is_new else PIECES
    tokenizer = Tokenizer(models.BPE(ignore_merges=name == "llama3"))
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<|end|>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([text for text in texts(draw, pieces) for _ in range(3)], trainer)
    tokenizer.add_tokens([AddedToken("<keep>", special=False, lstrip=name == "gpt2", rstrip=name == "smollm")])
    if is_new:
        tokenizer.add_tokens(MORE_TOKENS)
    folder = os.path.join(DATA, "tokenizer", name)
    path = os.path.join(folder, "tokenizer.json")
    os.makedirs(folder, exist_ok=True)
    if name == "removed":
        save_in_old_spelling(tokenizer, path)
    else:
        tokenizer.save(path, pretty=False)
    write_cases(Tokenizer.from_file(path), os.path.join(folder, "cases.jsonl"),
                texts(random.Random(name + " cases"), pieces))


if __name__ == "__main__":
    for each, cutter in PRE_TOKENIZERS.items():
        make(each, cutter)
    write_cases(Tokenizer.from_file(os.path.join(DATA, "tiny", "llama", "tokenizer.json")),
                os.path.join(DATA, "tokenizer", "tiny.jsonl"), texts(random.Random("tiny"), MORE_PIECES))
