"""Reference renderings of chat templates by Jinja2 with transformers' settings: random dialogues with and without a
system turn and the generation prompt, odd white space, empty and non-Latin texts. Writes data/chat/templates.json.

    python3 -m venv V && V/bin/pip install jinja2==3.1.6 && V/bin/python3 tests/parity/make_chat.py

The templates are in chat_texts.py and chat_texts_more.py. To compare with published files, NAME.jinja in a folder, on
thousands of dialogues: make_chat.py --templates FOLDER --cases 300, then run the unit tests of runtime/text, then
make_chat.py again.
"""
import argparse
import datetime
import json
import os
import random

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chat_texts import (CHATML, DEFAULT, DONE, EACH, GEMMA, GEMMA3, GUARD, IM_PROMPT, IM_TURN, LLAMA2, LLAMA3, LLAMA31,
                        LLAMA3_PROMPT, PHI3, PHI3_OLD, PHI3_PROMPT, PHI4, PHI4_MINI, PROMPT, QWEN25, QWEN3_NEW,
                        QWEN3_OLD, QWEN3_PROMPT, QWQ, SMOLLM3, THINK_PROMPT, ZEPHYR)
from chat_texts_more import (BY_CALLS, BY_CONTENT, DEEPSEEK2, DEEPSEEK31, DEVSTRAL, GPT_OSS, IS_CALL, JOINED,
                             MISTRAL_2501, MISTRAL_2503, MISTRAL_2506, MISTRAL_OLD, MISTRAL_V1, MISTRAL_V3, MISTRAL_V7,
                             SAYS, SAYS_CUT, SET_CONTENT, deepseek, deepseek_asks)

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "chat")
DATE = datetime.date(2025, 3, 9)
BOS, EOS = "<s>", "</s>"

# what recognises it, the template, what ends an answer, what its renderings leave to try: s(ystem turns) at the beginning
# only, a(lternating turns), n(o system turn), t(houghts), w(ords in them that switch thinking)
TEMPLATES = [
    ("chatml", CHATML, "<|im_end|>", ""),
    ("chatml", "{%- for message in messages -%}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + \"<|im_end|>\\n\" "
               "-}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{- '<|im_start|>assistant\\n' -}}\n{%- endif -%}\n",
     "<|im_end|>", ""),
    ("chatml", EACH + DEFAULT % "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n'"
     + IM_TURN + DONE + IM_PROMPT, "<|im_end|>", ""),
    ("chatml", GUARD + EACH + DEFAULT % "\"<|im_start|>system\\nShe said \\\"hi\\\"\\tthen left.<|im_end|>\\n\"" + IM_TURN + DONE
     + IM_PROMPT, "<|im_end|>", ""),
    ("qwen2.5", QWEN25, "<|im_end|>", ""),
    ("qwen3", QWEN3_OLD + QWEN3_PROMPT, "<|im_end|>", "t"),
    ("qwen3", QWEN3_NEW + QWEN3_PROMPT, "<|im_end|>", "t"),
    ("qwen3-thinking", QWEN3_NEW + THINK_PROMPT, "<|im_end|>", "t"),
    ("qwq", QWQ, "<|im_end|>", "t"),
    ("llama2", LLAMA2, " </s>", "sa"),
    ("llama3", LLAMA3 + PROMPT % LLAMA3_PROMPT, "<|eot_id|>", ""),
    ("llama3-prompting", LLAMA3 + "{{ '" + LLAMA3_PROMPT + "' }}", "<|eot_id|>", ""),
    ("llama3.1", LLAMA31.replace("DATE", '    {%- set date_string = "26 Jul 2024" %}\n').replace(
        "TOOLS", "{%- if builtin_tools is defined or tools is not none %}\n    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n"
        "{%- if builtin_tools is defined %}\n    {{- \"Tools: \" }}\n{%- endif %}\n"), "<|eot_id|>", ""),
    ("llama3.2", LLAMA31.replace("DATE", """    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
""").replace("TOOLS", "{%- if tools is not none %}\n    {{- \"Environment: ipython\\n\" }}\n{%- endif %}\n"), "<|eot_id|>", ""),
    ("gemma", GEMMA, "<end_of_turn>", "na"),
    ("gemma3", GEMMA3, "<end_of_turn>", "sa"),
    ("mistral-v0.1", MISTRAL_OLD.replace("BEHIND", " + ' ' "), EOS, "na"),
    ("mistral-v0.2", MISTRAL_OLD.replace("BEHIND", ""), EOS, "na"),
    ("mistral-v1", MISTRAL_V1, EOS, "sa"),
    ("mistral-v3", MISTRAL_V3.replace("INST\"", "[INST] \"").replace("[/[INST] ", "[/INST]").replace("CALLS", IS_CALL).replace(
        "ANSWER", '" " + message["content"]|trim'), EOS, "sa"),
    ("mistral-v3-tekken", MISTRAL_V3.replace("INST\"", "[INST]\"").replace("[/[INST]", "[/INST]").replace(
        "CALLS", f"({IS_CALL})").replace("ANSWER", 'message["content"]'), EOS, "sa"),
    ("mistral-v7", MISTRAL_V7, EOS, ""),
    ("mistral-v7-tekken", MISTRAL_2501, EOS, ""),
    ("mistral-v7-tekken", MISTRAL_2503, EOS, ""),
    ("mistral-v7-strict", MISTRAL_2506, EOS, "sa"),
    ("phi3", PHI3.replace("SAID", ""), "<|end|>", ""),
    ("phi3.5", PHI3.replace("SAID", " and message['content']"), "<|end|>", ""),
    ("phi3-small", "{{ bos_token }}" + EACH + "{{'<|' + message['role'] + '|>' + '\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
     + PHI3_PROMPT, "<|end|>", ""),
    ("phi3-mini-old", "{{ bos_token }}" + PHI3_OLD, "<|end|>", "n"),
    ("phi3-medium", PHI3_OLD, "<|end|>", "n"),
    ("phi4", PHI4, "<|im_end|>", ""),
    ("phi4-mini", PHI4_MINI, "<|end|>", ""),
    ("deepseek2", DEEPSEEK2, EOS, ""),
    ("deepseek3", deepseek(JOINED, BY_CONTENT, SAYS, ""), "<｜end▁of▁sentence｜>", ""),
    ("deepseek3", deepseek(JOINED, BY_CALLS, SAYS, ""), "<｜end▁of▁sentence｜>", ""),
    ("deepseek-r1-old", deepseek(JOINED, BY_CONTENT, SAYS_CUT, ""), "<｜end▁of▁sentence｜>", "t"),
    ("deepseek-r1", deepseek(JOINED, BY_CALLS, SAYS_CUT, "<think>\\n"), "<｜end▁of▁sentence｜>", "t"),
    ("deepseek-r1-distill", deepseek("{%- set ns.system_prompt = message['content'] -%}", BY_CONTENT, SAYS_CUT, "<think>\\n"),
     "<｜end▁of▁sentence｜>", "t"),
    ("deepseek3-0324", deepseek_asks("", "message['content']", "", SET_CONTENT), "<｜end▁of▁sentence｜>", ""),
    ("deepseek-r1-0528", deepseek_asks(SET_CONTENT, "content", "{%- if message['role'] == 'assistant' %}{% if '</think>' in content %}"
                                       "{% set content = content.split('</think>')[-1] %}{% endif %}{% endif %}", ""),
     "<｜end▁of▁sentence｜>", "t"),
    ("deepseek3.1", DEEPSEEK31, "<｜end▁of▁sentence｜>", "t"),
    ("gpt-oss", GPT_OSS, "<|end|>", "s"),
    ("zephyr", ZEPHYR, EOS, ""),
    ("devstral", DEVSTRAL, EOS, ""),
    ("smollm3", SMOLLM3, "<|im_end|>", "sw"),
]
REFUSED = {
    "trimmed": CHATML.replace("message['content']", "message['content'] | trim"),
    "other": "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
    "more": CHATML + "{{ '<think>' }}",
    "text": "Hello " + CHATML,
}
CONTENTS = ["Hi there", "", " leading and trailing ", "two\nlines\n", "ünï 🙂 {{ x }} {% y %}", "it's \"quoted\" \\n", "\n\n", " \t\r\n ",
            "\u00a0no break\u2003", "\u0085\u001c3\u200b", "<|im_end|><|eot_id|></s>", "{bos}{text0}", "x" * 40, "\n\na\n\nb\n\n"]
SWITCHES = ["/think", "Be brief. /no_think ", "/no_think and /think", "/th/no_thinkink x", "Only this. /system_override \n",
            "/system_override", "/no_think /system_override /think ", " /think\u2003"]
THOUGHTS = ["<think>\nhm\n</think>\n\nAnswer", "<think></think>x", "</think>", "a</think>b</think>\n\nc", "<think>no end",
            "\n<think>\n\n<think>\ntwo\n\n</think>\n\nrest\n", "<tool_response>\nx\n</tool_response>", "<think>\n\n</think>\n\n"]


def raise_exception(message):
    raise TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = DATE.strftime


def compiled(source):
    """Of a template; what transformers' tag for learned text does to the text around it, any tag does."""
    return environment.from_string(source.replace("{% generation %}", "{% if true %}").replace("{% endgeneration %}", "{% endif %}"))


def render(template, messages, prompt, **more):
    """As transformers' apply_chat_template() calls it: special tokens are variables, tools None."""
    return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=prompt, bos_token=BOS,
                           eos_token=EOS, **more)


def dialogue(rng, how):
    """Random messages that the template takes."""
    contents = CONTENTS + (THOUGHTS if "t" in how else [])
    messages, n = [], rng.randint(1, 5)
    if "n" not in how and rng.random() < .5:
        messages.append({"role": "system", "content": rng.choice(CONTENTS + SWITCHES * ("w" in how))})
    for i in range(n):
        if "a" in how:
            role = "assistant" if i % 2 else "user"
        else:
            role = rng.choice(["user", "user", "assistant", "assistant"] + ["system"] * (not set(how) & set("sn")))
        messages.append({"role": role, "content": rng.choice(contents)})
    return messages


def spans(template, messages, end, last_end):
    """Answers: each begins where what comes before it, with the generation prompt, ends, if it begins so, else with its
    content; the end mark belongs to it. Contents are words that occur once."""
    rendered, found = render(template, messages, False), []
    for i, message in enumerate(messages):
        if message["role"] == "assistant":
            before = render(template, messages[:i], True)
            content = rendered.index(message["content"])
            mark = last_end if i + 1 == len(messages) else end
            begin = len(before) if rendered.startswith(before) else content
            assert rendered[content + len(message["content"]):].startswith(mark), (rendered, mark)
            found.append([len(rendered[:begin].encode()), len((rendered[:content] + message["content"] + mark).encode())])
    return rendered, found


def cases_of(source, how, n, rng):
    template = compiled(source)
    asked = [{"role": "user", "content": rng.choice(CONTENTS[2:8])}]
    cases = [{"messages": asked, "prompt": True, "rendered": render(template, asked, True)}]
    while len(cases) < n:
        case = {"messages": dialogue(rng, how), "prompt": rng.random() < .5}
        more = {}
        for switch in ("enable_thinking is", "not thinking is"):
            if switch in source and rng.random() < .6:
                case["thinking"] = more[switch.split()[-2]] = rng.random() < .5
        if "reasoning_effort" in source and rng.random() < .6:
            case["effort"] = more["reasoning_effort"] = rng.choice(["low", "medium", "high"])
        try:
            cases.append(dict(case, rendered=render(template, case["messages"], case["prompt"], **more)))
        except TemplateError:
            pass
    return cases


def answers_of(name, source, end, how):
    template = compiled(source)
    last_end = "<|return|>" if name == "gpt-oss" else end
    system = [] if set(how) & set("n") or name.startswith("mistral-v3") else [{"role": "system", "content": "rules-0"}]
    turns = [{"role": role, "content": f"{role}-{i}"} for i, role in enumerate(["user", "assistant"] * 3, 1)]
    cases = []
    for messages in (turns[:2], turns, system + turns[:4], system + turns[:3]):
        rendered, answers = spans(template, messages, end, last_end)
        cases.append({"messages": messages, "prompt": False, "rendered": rendered, "answers": answers})
    return cases


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--templates")
    parser.add_argument("--cases", type=int, default=24)
    args = parser.parse_args()
    rng, listed = random.Random(7), []
    if args.templates:
        for name in sorted(os.listdir(args.templates)):
            with open(os.path.join(args.templates, name)) as file:
                source = file.read()
            # what ignores system turns without a word, we refuse
            how = "n" if "system" not in source and "+ message['role']" not in source else ""
            how += "a" if "must alternate" in source else ""
            how += "t" if "think" in source else ""
            how += "s" if "must alternate" in source or "developer" in source else ""
            listed.append({"title": name, "template": source, "cases": cases_of(source, how, args.cases, rng)})
    else:
        for name, source, end, how in TEMPLATES:
            listed.append({"name": name, "title": name, "template": source,
                           "cases": cases_of(source, how, args.cases, rng) + answers_of(name, source, end, how)})
        listed += [{"title": name, "template": source, "refused": True} for name, source in REFUSED.items()]
    with open(os.path.join(DATA, "templates.json"), "w") as file:
        head = json.dumps({"bos": BOS, "eos": EOS, "date": [DATE.year, DATE.month, DATE.day]})
        file.write(head[:-1] + ', "templates": [\n')
        for i, template in enumerate(listed):
            cases = template.pop("cases", [])
            file.write(json.dumps(template)[:-1] + ', "cases": [\n' + ",\n".join(map(json.dumps, cases)) + "]}")
            file.write("]}\n" if i + 1 == len(listed) else ",\n")


main()
