"""Reference renderings of chat templates by Jinja2 with transformers' settings: one user turn, with the
generation prompt, and whole dialogues without it. Writes data/chat/cases.json and dialogues.json.

    python3 -m venv V && V/bin/pip install jinja2==3.1.6 && V/bin/python3 tests/parity/make_chat.py
"""
import json
import os

from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data")
TEMPLATES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>"
               "system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
               "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
               "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>"
             "system\nYou are a helpful assistant<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' "
             "+ message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>"
             "assistant\n' }}{% endif %}",
    "plain": "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
             "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "spread": "{%- for message in messages -%}\n    {{- '<|im_start|>' + message.role + '\\n' + message.content + "
              "\"<|im_end|>\\n\" -}}\n{%- endfor -%}\n{%- if add_generation_prompt -%}\n    {{- '<|im_start|>assistant\\n' "
              "-}}\n{%- endif -%}\n",
    "quoted": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ \"<|im_start|>"
              "system\\nShe said \\\"hi\\\"\\tthen left.<|im_end|>\\n\" }}{% endif %}{{'<|im_start|>' + message['role'] + "
              "'\\n' + message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}"
              "{{ '<|im_start|>assistant\\n' }}{% endif %}",
}
REFUSED = {
    "trimmed": TEMPLATES["plain"].replace("message['content']", "message['content'] | trim"),
    "other": "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
    "more": TEMPLATES["plain"] + "{{ '<think>' }}",
    "text": "Hello " + TEMPLATES["plain"],
}
CONTENTS = ["Hi there", "", " leading and trailing ", "two\nlines\n", "ünï 🙂 {{ x }} {% y %}", "it's \"quoted\" \\n"]

environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
cases = []
for name, template in TEMPLATES.items():
    for content in CONTENTS:
        rendered = environment.from_string(template).render(
            messages=[{"role": "user", "content": content}], add_generation_prompt=True)
        cases.append({"name": name, "template": template, "content": content, "rendered": rendered})
cases += [{"name": name, "template": template, "content": "Hi"} for name, template in REFUSED.items()]
os.makedirs(os.path.join(DATA, "chat"), exist_ok=True)
with open(os.path.join(DATA, "chat", "cases.json"), "w") as file:
    json.dump(cases, file, indent=1)

# An answer begins where the rendering of all before it ends, with the generation prompt, and its end mark is in it.
USER, ANSWER, SYSTEM = (lambda text, role=role: {"role": role, "content": text} for role in ("user", "assistant", "system"))
DIALOGUES = [
    [USER("Hi"), ANSWER("Hello.")],
    [SYSTEM("Be brief."), USER("One?"), ANSWER("Two.\n"), USER(" three"), ANSWER(" f\u00fcnf \U0001f642")],
    [USER("a"), ANSWER(""), USER("b")],
    [ANSWER("I begin."), ANSWER("And go on.")],
    [SYSTEM(""), USER("<|im_end|>"), ANSWER("<|im_start|>")],
]
cases = []
for name, template in TEMPLATES.items():
    def render(messages, prompt):
        return environment.from_string(template).render(messages=messages, add_generation_prompt=prompt)

    for messages in DIALOGUES:
        rendered, answers = render(messages, False), []
        for i, message in enumerate(messages):
            if message["role"] == "assistant":
                # the default system turn hangs on the first message: of none there is nothing to render
                before = render(messages[:i], True) if i > 0 else rendered[:rendered.index("assistant\n") + 10]
                assert rendered.startswith(before)
                begin = len(before.encode())
                answers.append([begin, begin + len((message["content"] + "<|im_end|>").encode())])
        cases.append({"name": name, "template": template, "messages": messages, "rendered": rendered, "answers": answers})
with open(os.path.join(DATA, "chat", "dialogues.json"), "w") as file:
    json.dump(cases, file, indent=1)
