"""Reference token ids of the kinds that make_tokenizer.py has not: from tokenizers (0.23.3) SentencePiece's BPE with byte
fallback and Unigram as tokenizer.json has them, normalizers, the pre-tokenizers of Qwen2, DeepSeek, GPT-4o and Tekken;
from sentencepiece (0.2.3) GGUF files of both its models. Writes data/tokenizer/NAME/{tokenizer.json or model.gguf,
cases.jsonl}.

    V/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3 gguf==0.19.0
    V/bin/python3 tests/parity/make_tokenizer_more.py                           # all, or those that are named
    V/bin/python3 tests/parity/make_tokenizer_more.py --check build/release/argosy 3000   # on so many other texts
"""
import base64
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile

import gguf
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as sp_model
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from make_tokenizer import DATA, MORE_PIECES, texts

SPACE = "▁"
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
REST = r"| ?[^\s\p{L}\p{N}]+%s|\s*[\r\n]+|\s+(?!\S)|\s+"
HEAD = r"[^\r\n\p{L}\p{N}]?"
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
QWEN2 = CONTRACTIONS + "|" + HEAD + r"\p{L}+|\p{N}" + REST % r"[\r\n]*"
GPT4O = (HEAD + UPPER + "*" + LOWER + "+" + CONTRACTIONS + "?|" + HEAD + UPPER + "+" + LOWER + "*" + CONTRACTIONS +
         r"?|\p{N}{1,3}" + REST % r"[\r\n/]*")
TEKKEN = HEAD + UPPER + "*" + LOWER + "+|" + HEAD + UPPER + "+" + LOWER + r"*|\p{N}" + REST % r"[\r\n/]*"
CASED = ("A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
         "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f\u0531-"
         "\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77\u1d79-\u1d9a"
         "\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d\u1f80-\u1fb4"
         "\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4\u1ff6-\u1ffc"
         "\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139\u213c-\u213f"
         "\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d\ua680-\ua69b"
         "\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a\uff41-\uff5a"
         "\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2\U00010cc0-\U00010cf2"
         "\U000118a0-\U000118df\U0001e900-\U0001e943")
DEEPSEEK_LLM = ["[\r\n]", "\\s?[" + CASED + "]+",
                "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+", "\\s+$",
                "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"]
DEEPSEEK_V3 = [r"\p{N}{1,3}", "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
               "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+|"
               " ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"]
PIECES = [piece for piece in MORE_PIECES if "\u0000" not in piece] + [
    "the cat", " of", " in the", "ing ", "CamelCaseWord", "XMLHttp", "don'T", "a/b/", "//\n", "   x", " \u2581",
    "\u2581\u2581", "<s>", "</s>", "<unk>", " <s> ", "<0x41>", "\u00e9", "e\u0301\u0323", "\u0323\u0301", "ﬀ", "Ａ１", "㈠",
    "한국", "\u1100\u1161\u11a8", "İ", "ΣΑΣ", "½x", "x²", "…", "\u00ad", "word<w>", "<w>", "x<w>", "<w>y", "<w>_", " <w>-",
    "\n\n\n", "\t\t\t", "    ", "[x]", "Z̤͔ͧ̑̓", "𝒳𝓎", "\u200d", "\u00c5\u212b"]


def some_texts(name, count):
    """Texts of every kind, some of them long."""
    draw = random.Random(name)
    found = list(texts(draw, PIECES))
    while len(found) < count:
        found += list(texts(draw, PIECES))[len(PIECES):]
    return found[:count]


def plain_words(name):
    """What is learned from: no NUL, no added token."""
    return [text for text in some_texts(name + " train", 500) if "\u0000" not in text] * 2


def splits(patterns, *more):
    cuts = [pre_tokenizers.Split(Regex(pattern), behavior="isolated", invert=False) for pattern in patterns]
    return pre_tokenizers.Sequence(cuts + list(more) + [pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def byte_level(name, normalizer, pre_tokenizer, ignore_merges=False):
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=420, special_tokens=["<s>", "</s>"], show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator(plain_words(name), trainer)
    tokenizer.add_tokens([AddedToken("<w>", normalized=False, single_word=True), AddedToken("e\u0301x", normalized=True)])
    return tokenizer


def learn_bpe(name, n_tokens):
    """Words and merges of characters, spaces written as in SentencePiece."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.train_from_iterator(plain_words(name), trainers.BpeTrainer(
        vocab_size=n_tokens, show_progress=False, limit_alphabet=150, initial_alphabet=list("abcdefghij" + SPACE)))
    model = json.loads(tokenizer.to_str())["model"]
    return sorted(model["vocab"], key=model["vocab"].get), [tuple(merge) for merge in model["merges"]]


def all_merges(words):
    """As transformers makes merges of a SentencePiece model: every way to cut a word into two, the best words first."""
    known, merges = {word: i for i, word in enumerate(words)}, []
    for word in words:
        cuts = [(word[:i], word[i:]) for i in range(1, len(word))]
        merges += sorted((cut for cut in cuts if cut[0] in known and cut[1] in known),
                         key=lambda cut: (-len(cut[0]), -len(cut[1])))
    return merges


def sp_decoder(strip=True):
    steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    return decoders.Sequence(steps + ([decoders.Strip(content=" ", left=1, right=0)] if strip else []))


def sp_bpe(name, normalizer, pre_tokenizer, decoder, fallback=True, whole=True, unknown="<unk>", fuse=True, bytes_from=0):
    """BPE over characters; `whole`: with every merge that SentencePiece would make."""
    words, merges = learn_bpe(name, 300)
    specials = ["<unk>", "<s>", "</s>"]
    singles = [word for word in words if len(word) == 1]
    made = [word for word in words if len(word) > 1 and word not in specials and not word.startswith("<0x")]
    known = set(singles + made)
    merges = [merge for merge in merges if {"".join(merge), *merge} <= known]
    if whole:
        merges = [merge for merge in all_merges(made + singles) if "".join(merge) in set(made)]
    tokens = specials + ([f"<0x{byte:02X}>" for byte in range(bytes_from, 256)] if fallback else []) + made + singles
    tokenizer = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges,
                                     byte_fallback=fallback, unk_token=unknown, fuse_unk=fuse))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in specials])
    return tokenizer


def llama():
    """As Llama 2 is converted by transformers 4."""
    tokenizer = sp_bpe("llama", normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)]), None,
                       sp_decoder())
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B",
                                                             special_tokens=[("<s>", 1)])
    tokenizer.add_tokens([AddedToken("<w>", normalized=False, rstrip=True), AddedToken("the cat", normalized=True)])
    return tokenizer


def llama_first():
    """As transformers 5 writes it: a space before the first word alone, and merges as they were learned."""
    return sp_bpe("first", None, pre_tokenizers.Metaspace(prepend_scheme="first", split=False), sp_decoder(), whole=False)


def gemma():
    tokenizer = sp_bpe("gemma", normalizers.Replace(" ", SPACE),
                       pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False), sp_decoder(False))
    tokenizer.add_tokens([AddedToken("\n" * n, normalized=False) for n in range(1, 4)])
    tokenizer.add_tokens([AddedToken(SPACE * n, normalized=False) for n in range(2, 5)])
    tokenizer.add_tokens([AddedToken("<w>", normalized=False, lstrip=True)])
    return tokenizer


def metaspace():
    """Nothing falls back to bytes; unknown characters are told one by one; a text ends with a token."""
    normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer = sp_bpe("metaspace", normalizer, pre_tokenizers.Metaspace(prepend_scheme="always"),
                       decoders.Metaspace(prepend_scheme="always"), fallback=False, fuse=False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    tokenizer.add_tokens([AddedToken("<w>", single_word=True, normalized=False), AddedToken("ΣΑ", normalized=True)])
    return tokenizer


def few_bytes():
    """Some bytes have no token: characters fall back whole, or are unknown; white space goes at the ends."""
    normalizer = normalizers.Sequence([normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(r"\s{2,}"), " "),
                                       normalizers.NFD(), normalizers.Replace("a", "aa")])
    cut = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"[!-/:-@\[-`{-~]+"), "isolated"), pre_tokenizers.WhitespaceSplit(),
        pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.Metaspace(prepend_scheme="always")])
    tokenizer = sp_bpe("few", normalizer, cut, sp_decoder(False), bytes_from=0x90)
    tokenizer.add_tokens([AddedToken("<w>", lstrip=True, rstrip=True, normalized=False)])
    return tokenizer


def learn_unigram(name, **options):
    """A model of SentencePiece's, as its own file has it."""
    allowed = set("".join(PIECES))  # the alphabet is what coverage leaves, and it must not be large
    lines = ["".join(c for c in text if c in allowed and c not in "\r\n") for text in plain_words(name)]
    out, lines = io.BytesIO(), [line for line in lines if line]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=out, character_coverage=0.985, minloglevel=2, num_threads=1,
        hard_vocab_limit=False, bos_id=1, eos_id=2, unk_id=0, pad_id=-1, max_sentence_length=100000, **options)
    model = sp_model.ModelProto()
    model.ParseFromString(out.getvalue())
    return model


def rules_of(name):
    """A small map of characters, so that the file is small."""
    rows = {"ﬁ": "fi", "\u00a0": " ", "\u3000": " ", "\t": " ", "…": "...", "e\u0301": "é", "Ａ": "A", "½": "1/2", "ab": "c",
            "abc": "de", "\u200b": ""}
    path = os.path.join(tempfile.mkdtemp(), name)
    with open(path, "w") as file:
        for text, to in rows.items():
            file.write(" ".join(f"{ord(c):X}" for c in text) + "\t" + " ".join(f"{ord(c):X}" for c in to) + "\n")
    return path


def unigram(name, model, normalizer, pre_tokenizer, decoder, fallback):
    vocab = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = Tokenizer(models.Unigram(vocab, 0, byte_fallback=fallback))
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if pre_tokenizer is not None:
        tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoder
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in ("<unk>", "<s>", "</s>")])
    tokenizer.add_tokens([AddedToken("<w>", normalized=False, single_word=True)])
    return tokenizer


def unigram_t5():
    """As T5 is converted: a map, white space, a space before each word."""
    model = learn_unigram("t5", model_type="unigram", vocab_size=700, normalization_rule_tsv=rules_of("t5.tsv"))
    normalizer = normalizers.Sequence([
        normalizers.Precompiled(bytes(model.normalizer_spec.precompiled_charsmap)), normalizers.Strip(left=False, right=True),
        normalizers.Replace(Regex(" {2,}"), SPACE)])
    tokenizer = unigram("t5", model, normalizer, pre_tokenizers.Metaspace(prepend_scheme="always"),
                        decoders.Metaspace(prepend_scheme="always"), False)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 2)])
    return tokenizer


def unigram_bytes():
    """As Japanese models have it: the whole text is one word, what is unknown falls back to bytes."""
    model = learn_unigram("bytes", model_type="unigram", vocab_size=900, byte_fallback=True, normalization_rule_name="identity")
    normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    return unigram("bytes", model, normalizer, None, sp_decoder(), True)


TOKENIZERS = {
    "qwen2": lambda: byte_level("qwen2", normalizers.NFC(), splits([QWEN2])),
    "deepseek_llm": lambda: byte_level("deepseek_llm", None, splits(DEEPSEEK_LLM, pre_tokenizers.Digits(True))),
    "deepseek_v3": lambda: byte_level("deepseek_v3", None, splits(DEEPSEEK_V3)),
    "gpt4o": lambda: byte_level("gpt4o", None, splits([GPT4O])),
    "tekken": lambda: byte_level("tekken", None, splits([TEKKEN]), ignore_merges=True),
    "llama": llama, "llama_first": llama_first, "gemma": gemma, "metaspace": metaspace, "few_bytes": few_bytes,
    "unigram_t5": unigram_t5, "unigram_bytes": unigram_bytes,
}

SP_MODELS = {
    "sp_bpe": dict(model_type="bpe", vocab_size=900, byte_fallback=True, normalization_rule_name="identity",
                   remove_extra_whitespaces=False, user_defined_symbols=["<w>", "the cat"]),
    "sp_bpe_plain": dict(model_type="bpe", vocab_size=700, normalization_rule_name="identity", remove_extra_whitespaces=False,
                         add_dummy_prefix=False, user_defined_symbols=["<w>", SPACE * 2, SPACE * 3, "\n"]),
    "sp_unigram": dict(model_type="unigram", vocab_size=700, user_defined_symbols=["<w>", "the"]),
    "sp_unigram_bytes": dict(model_type="unigram", vocab_size=900, byte_fallback=True, normalization_rule_name="identity",
                             remove_extra_whitespaces=False),
}


def cases_of(tokenizer, found):
    """As transformers asks: what comes before and behind a text is not of it."""
    for text in found:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        tokenizer.encode_special_tokens = False
        case = {"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        if plain != ids:
            case["ids_plain"] = plain
        yield case


def write_gguf(path, model):
    """Without tensors; names as llama.cpp's conversion has them."""
    kinds = {1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 6}
    spec = model.normalizer_spec
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("t5" if model.trainer_spec.model_type == 1 else "llama")
    writer.add_token_list([piece.piece.encode() for piece in model.pieces])
    writer.add_token_scores([piece.score for piece in model.pieces])
    writer.add_token_types([kinds[piece.type] for piece in model.pieces])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_space_prefix(spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(spec.remove_extra_whitespaces)
    if spec.precompiled_charsmap:
        writer.add_precompiled_charsmap(spec.precompiled_charsmap)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()


def sp_cases(model, found):
    """What sentencepiece gives; control tokens, and behind a space in front user-defined ones, cut the text first,
    those of Unigram as well, which sentencepiece weighs and llama.cpp cuts."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.SerializeToString())
    kinds = sp_model.ModelProto.SentencePiece
    dummy = model.normalizer_spec.add_dummy_prefix
    ids = {piece.piece: i for i, piece in enumerate(model.pieces)}
    control = [p.piece for p in model.pieces if p.type in (kinds.CONTROL, kinds.UNKNOWN)]
    user = [p.piece for p in model.pieces if p.type == kinds.USER_DEFINED and dummy]

    def encode(text, tokens):
        out = []
        for part in re.split("(" + "|".join(re.escape(t) for t in sorted(tokens, key=len, reverse=True)) + ")", text) \
                if tokens else [text]:
            out += [ids[part]] if part in tokens else processor.encode(part)
        return out

    for text in found:
        case = {"text": text, "ids": encode(text, control + user)}
        plain = encode(text, user)
        if plain != case["ids"]:
            case["ids_plain"] = plain
        yield case


def write(name, cases):
    with open(os.path.join(DATA, "tokenizer", name, "cases.jsonl"), "w") as file:
        for case in cases:
            file.write(json.dumps(case) + "\n")


def make(name):
    os.makedirs(os.path.join(DATA, "tokenizer", name), exist_ok=True)
    path = os.path.join(DATA, "tokenizer", name, "tokenizer.json" if name in TOKENIZERS else "model.gguf")
    if name in TOKENIZERS:
        TOKENIZERS[name]().save(path, pretty=False)
        write(name, cases_of(Tokenizer.from_file(path), some_texts(name + " cases", 260)))
    else:
        model = learn_sp(name)
        write_gguf(path, model)
        write(name, sp_cases(model, some_texts(name + " cases", 260)))


def learn_sp(name):
    options = dict(SP_MODELS[name])
    if name == "sp_unigram":
        options["normalization_rule_tsv"] = rules_of("sp.tsv")
    return learn_unigram(name, **options)


def ask(argosy, model, lines, *flags):
    done = subprocess.run([argosy, "tokenize", "--model", model, "--jsonl", *flags], check=True, capture_output=True,
                          input="".join(json.dumps(line) + "\n" for line in lines).encode())
    return [json.loads(line) for line in done.stdout.decode().split("\n") if line]


def check(argosy, name, count):
    """Other texts than those that are kept."""
    folder, found = os.path.join(DATA, "tokenizer", name), some_texts(f"{name} check {random.random()}", count)
    if name in TOKENIZERS:
        cases = list(cases_of(Tokenizer.from_file(os.path.join(folder, "tokenizer.json")), found))
        model = tempfile.mkdtemp()
        for file, source in (("tokenizer.json", folder), ("config.json", os.path.join(DATA, "tiny", "llama")),
                             ("model.safetensors", os.path.join(DATA, "tiny", "llama"))):
            os.symlink(os.path.join(source, file), os.path.join(model, file))
    else:
        cases, model = list(sp_cases(learn_sp(name), found)), os.path.join(folder, "model.gguf")
    bad = 0
    for flags, key in (([], "ids"), (["--no-special"], "ids_plain")):
        for case, got in zip(cases, ask(argosy, model, [case["text"] for case in cases], *flags), strict=True):
            if got != case.get(key, case["ids"]):
                bad += 1
                if bad < 4:
                    print(f"{name} {flags} {case['text']!r}: {got}, not {case.get(key, case['ids'])}")
    decoded = [case for case in cases if "decoded" in case]
    for case, got in zip(decoded, ask(argosy, model, [case["ids"] for case in decoded], "--decode"), strict=True):
        if got != case["decoded"]:
            bad += 1
            if bad < 6:
                print(f"{name} {case['ids']}: {got!r}, not {case['decoded']!r}")
    print(f"{name}: {len(cases)} texts, {bad} differ")


if __name__ == "__main__":
    checks = sys.argv[1:2] == ["--check"]
    for each in sys.argv[4 if checks else 1:] or list(TOKENIZERS) + list(SP_MODELS):
        if checks:
            check(sys.argv[2], each, int(sys.argv[3]))
        else:
            make(each)
