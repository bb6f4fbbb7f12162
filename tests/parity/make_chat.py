"""Reference renderings of chat templates by Jinja2 with transformers' settings: random dialogues with and without a
system turn and the generation prompt, odd white space, empty and non-Latin texts. Writes data/chat/templates.json.

    python3 -m venv V && V/bin/pip install jinja2==3.1.6 && V/bin/python3 tests/parity/make_chat.py

The templates below are those that models were published with, less what serves tools and pictures. To compare with
published files, NAME.jinja in a folder, on thousands of dialogues: make_chat.py --templates FOLDER --cases 300, then run
the unit tests of runtime/text, then make_chat.py again.
"""
import argparse
import datetime
import json
import os
import random

from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "data", "chat")
DATE = datetime.date(2025, 3, 9)
BOS, EOS = "<s>", "</s>"

GUARD = "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}"
EACH, DONE = "{% for message in messages %}", "{% endfor %}"
PROMPT = "{%% if add_generation_prompt %%}{{ '%s' }}{%% endif %%}"
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must "
             "alternate user/assistant/user/assistant/...') }}{% endif %}")
SPLIT = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
"""
IM_TURN = "{{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}"
IM_PROMPT = PROMPT % "<|im_start|>assistant\\n"
CHATML = EACH + IM_TURN + DONE + IM_PROMPT
DEFAULT = "{%% if loop.first and messages[0]['role'] != 'system' %%}{{ %s }}{%% endif %%}"
QWEN_TOOLS = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
%s    {%- endif %}
{%- endif %}
"""
QWEN_TOOL_TURN = """    {%- elif message.role == "tool" %}
        {{- '\\n<tool_response>\\n' }}
    {%- endif %}
{%- endfor %}
"""
QWEN3_QUERY = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and MORE not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
"""
QWEN3_ANSWER = """        {%- if loop.index0 > ns.last_query_index %}
            {%- if loop.last or (not loop.last and reasoning_content) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {{- '<tool_call>' }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
""" + QWEN_TOOL_TURN
QWEN3_OLD = QWEN_TOOLS.replace("%s", "") + QWEN3_QUERY.replace("MORE ", "") + """    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set content = message.content %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is defined and message.reasoning_content is not none %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in message.content %}
                {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
                {%- set reasoning_content = message.content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
""" + QWEN3_ANSWER
QWEN3_NEW = QWEN_TOOLS.replace("%s", "") + QWEN3_QUERY.replace("MORE", "message.content is string and") + """    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning_content = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning_content = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning_content = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
""" + QWEN3_ANSWER
QWEN3_PROMPT = """{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
THINK_PROMPT = "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n<think>\\n' }}\n{%- endif %}\n"
QWQ = QWEN_TOOLS.replace("%s", "") + """{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" and not message.tool_calls %}
        {%- set content = message.content %}
        {%- if not loop.last %}
            {%- set content = message.content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
""" + QWEN_TOOL_TURN + THINK_PROMPT
QWEN25 = QWEN_TOOLS.replace("%s", """    {%- else %}
        {{- '<|im_start|>system\\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\\n' }}
""") + """{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
""" + QWEN_TOOL_TURN + "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n"
LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
    "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}" + ALTERNATE + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}"
    "{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}"
    "{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}"
    "{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
LLAMA3_PROMPT = "<|start_header_id|>assistant<|end_header_id|>\n\n"
LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
    "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}"
    "{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}")
LLAMA31 = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
DATE{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- System message #}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
TOOLS{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{%- if tools is not none and not tools_in_user_message %}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
    {%- endfor %}
{%- endif %}
{{- system_message }}
{{- "<|eot_id|>" }}

{#- Custom tools are passed in a user message with some extra guidance #}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set messages = messages[1:] %}
{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
{%- endif %}

{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + EACH + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = "
    "message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}")
GEMMA3 = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = '' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {{ '<start_of_image>' }}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""
MISTRAL_OLD = (
    "{{ bos_token }}" + EACH + ALTERNATE + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + "
    "' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_tokenBEHIND}}{% else %}"
    "{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}")
MISTRAL_V1 = SPLIT + """
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('After the optional system message, conversation roles must alternate') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.first and system_message is defined %}
            {{- " [INST] " + system_message + "\\n\\n" + message["content"] + " [/INST]" }}
        {%- else %}
            {{- " [INST] " + message["content"] + " [/INST]" }}
        {%- endif %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token}}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""
MISTRAL_V3 = SPLIT + """{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{#- This block checks for alternating user/assistant messages, skipping tool calling messages #}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS]" }}
            {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "INST" + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "INST" + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif CALLS %}
        {{- "[TOOL_CALLS]" }}
    {%- elif message["role"] == "assistant" %}
        {{- ANSWER + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {{- '[TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported") }}
    {%- endif %}
{%- endfor %}
"""
IS_CALL = "message.tool_calls is defined and message.tool_calls is not none"
MISTRAL_V7 = (
    "{{ bos_token }}" + EACH + "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + eos_token }}{% else %}"
    "{{ raise_exception('Only user, system and assistant roles are supported!') }}{% endif %}{% endfor %}")
TEKKEN_DEFAULT = """{%- set today = strftime_now("%Y-%m-%d") %}
{%- set default_system_message = "You are a large language model.\\nToday is " + today + ".\\n\\nYou don't \\"know\\" what\\nhappened since." %}

{{- bos_token }}

"""
TEKKEN_TURNS = """{{- '[SYSTEM_PROMPT]' + system_message + '[/SYSTEM_PROMPT]' }}

{%- for message in loop_messages %}
    {%- if message['role'] == 'user' %}
        USER
    {%- elif message['role'] == 'system' %}
        SYSTEM
    {%- elif message['role'] == 'assistant' %}
        ANSWER
    {%- else %}
        {{- raise_exception('Only user, system and assistant roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""
TEKKEN_SAYS = {"USER": "{{- '[INST]' + message['content'] + '[/INST]' }}", "ANSWER": "{{- message['content'] + eos_token }}",
               "SYSTEM": "{{- '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"}
IS_TEXT = "{%%- if message['content'] is string %%}%s{%%- else %%}{{- '[IMG]' }}{%%- endif %%}"
MISTRAL_2501, MISTRAL_2503 = TEKKEN_TURNS, TEKKEN_TURNS
for role, says in TEKKEN_SAYS.items():
    MISTRAL_2501 = MISTRAL_2501.replace(role, says, 1) if role != "SYSTEM" else MISTRAL_2501.replace("        SYSTEM\n", "        " + says + "\n")
    MISTRAL_2503 = MISTRAL_2503.replace(role, IS_TEXT % says, 1) if role != "SYSTEM" else MISTRAL_2503.replace("        SYSTEM\n", "        " + IS_TEXT % says + "\n")
MISTRAL_2501 = TEKKEN_DEFAULT + """{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = default_system_message %}
    {%- set loop_messages = messages %}
{%- endif %}
""" + MISTRAL_2501
MISTRAL_2503 = TEKKEN_DEFAULT + """{%- if messages[0]['role'] == 'system' %}
    {%- if messages[0]['content'] is string %}
        {%- set system_message = messages[0]['content'] %}
    {%- else %}
        {%- set system_message = messages[0]['content'][0]['text'] %}
    {%- endif %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set system_message = default_system_message %}
    {%- set loop_messages = messages %}
{%- endif %}
""" + MISTRAL_2503
MISTRAL_2506 = TEKKEN_DEFAULT + """{%- set system_prompt = default_system_message %}
{%- set loop_messages = messages %}

{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}

{%- if messages|length > 0 and messages[0]['role'] == 'system' %}
    {%- if messages[0]['content'] is string %}
        {%- set system_prompt = messages[0]['content'] %}
    {%- else %}
        {%- set system_prompt = messages[0]['content'][0]['text'] %}
    {%- endif %}
    {%- set loop_messages = messages[1:] %}
{%- endif %}

{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}

{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.get('tool_calls'))) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}

{{- '[SYSTEM_PROMPT]' + system_prompt + '[/SYSTEM_PROMPT]' }}

{%- for message in loop_messages %}
    {%- if message['role'] == 'system' %}
        """ + IS_TEXT % TEKKEN_SAYS["SYSTEM"] + """
    {%- elif message['role'] == 'user' %}
        {%- if tools is not none and (message == user_messages[-1]) %}
            {{- '[AVAILABLE_TOOLS]' + tools|tojson + '[/AVAILABLE_TOOLS]' }}
        {%- endif %}
        {{- '[INST]' }}
        {%- if message['content'] is string %}
            {{- message['content'] }}
        {%- else %}
            {%- for block in message['content'] %}
                {%- if block['type'] in ['image', 'image_url'] %}
                    {{- '[IMG]' }}
                {%- endif %}
            {%- endfor %}
        {%- endif %}
        {{- '[/INST]' }}
    {%- elif message['role'] == 'assistant' %}
        {%- if message.get('tool_calls') %}
            {{- eos_token }}
        {%- elif message['content'] is string %}
            {{- message['content'] + eos_token }}
        {%- else %}
            {{- eos_token }}
        {%- endif %}
    {%- elif message['role'] == 'tool_results' or message['role'] == 'tool' %}
        {{- '[TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('Only system, user, assistant, and tool roles are supported!') }}
    {%- endif %}
{%- endfor %}
"""
PHI3_PROMPT = "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}"
PHI3 = EACH + "{% if message['role'] == 'system'SAID %}{{'<|system|>\n' + message['content'] + '<|end|>\n'}}" + "".join(
    "{%% elif message['role'] == '%s' %%}{{'<|%s|>\n' + message['content'] + '<|end|>\n'}}" % (role, role)
    for role in ("user", "assistant")) + "{% endif %}{% endfor %}" + PHI3_PROMPT
PHI3_OLD = EACH + (
    "{% if (message['role'] == 'user') %}{{'<|user|>' + '\n' + message['content'] + '<|end|>' + '\n' + '<|assistant|>' + '\n'}}"
    "{% elif (message['role'] == 'assistant') %}{{message['content'] + '<|end|>' + '\n'}}{% endif %}{% endfor %}")
PHI4 = EACH + (
    "{% if (message['role'] == 'system') %}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}"
    "{% elif (message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + "
    "'<|im_end|><|im_start|>assistant<|im_sep|>'}}{% elif (message['role'] == 'assistant') %}"
    "{{message['content'] + '<|im_end|>'}}{% endif %}{% endfor %}")
PHI4_MINI = EACH + (
    "{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|tool|>' }}"
    "{% else %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% else %}{{ eos_token }}{% endif %}")
DEEPSEEK2 = GUARD + "{{ bos_token }}" + EACH + (
    "{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + '\n\n' }}{% elif message['role'] == 'assistant' %}"
    "{{ 'Assistant: ' + message['content'] + eos_token }}{% elif message['role'] == 'system' %}"
    "{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}" + PROMPT % "Assistant:")
JOINED = ("{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = "
          "false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}")
SAYS = "{{'<｜Assistant｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}"
SAYS_CUT = ("{% set content = message['content'] %}{% if '</think>' in content %}{% set content = "
            "content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}")
BY_CONTENT = ("message['content'] is none", "message['content'] is not none")
BY_CALLS = ("'tool_calls' in message", "'tool_calls' not in message")


def deepseek(system, by, says, think):
    first = ", is_first_sp=true" if system == JOINED else ""
    return (GUARD + "{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt=''" + first +
            ") %}{%- for message in messages %}{%- if message['role'] == 'system' %}" + system + "{%- endif %}{%- endfor %}"
            "{{bos_token}}{{ns.system_prompt}}{%- for message in messages %}{%- if message['role'] == 'user' %}"
            "{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}"
            "{%- if message['role'] == 'assistant' and " + by[0] + " %}{{'<｜tool▁calls▁begin｜>'}}{%- endif %}"
            "{%- if message['role'] == 'assistant' and " + by[1] + " %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}"
            "{%- set ns.is_tool = false -%}{%- else %}" + says + "{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}"
            "{%- set ns.is_tool = true -%}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}"
            "{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜>" + think + "'}}{% endif %}")


IS_CALLS = ("{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}"
            "{{'<｜tool▁calls▁begin｜>'}}{%- endif %}{%- if message['role'] == 'assistant' and (message['tool_calls'] is not "
            "defined or message['tool_calls'] is none)%}")
ASKED = ("{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{%- set ns.is_first = false -%}"
         "{%- set ns.is_last_user = true -%}")


def deepseek_asks(set_content, content, cut, says):
    return (GUARD + "{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true, "
            "is_last_user=false) %}{%- for message in messages %}{%- if message['role'] == 'system' %}" + JOINED +
            "{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}" + set_content + ASKED +
            "{{'<｜User｜>' + " + content + " + '<｜Assistant｜>'}}{%- endif %}" + cut + IS_CALLS + "{%- set ns.is_last_user = "
            "false -%}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{%- set ns.is_tool = false -%}{%- else %}" + says +
            "{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = "
            "true -%}{%- endif %}{%- endfor -%}{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}"
            "{% if add_generation_prompt and not ns.is_last_user and not ns.is_tool %}{{'<｜Assistant｜>'}}{% endif %}")


SET_CONTENT = "{% set content = message['content'] %}"
DEEPSEEK31 = (
    GUARD + "{% if not thinking is defined %}{% set thinking = false %}{% endif %}{% set ns = namespace(is_first=false, "
    "is_tool=false, system_prompt='', is_first_sp=true, is_last_user=false) %}{%- for message in messages %}"
    "{%- if message['role'] == 'system' %}" + JOINED + "{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}"
    "{%- for message in messages %}" + ASKED + "{{'<｜User｜>' + message['content']}}{%- endif %}" + IS_CALLS +
    "{%- if ns.is_last_user %}{{'<｜Assistant｜>'}}{%- if message['prefix'] is defined and message['prefix'] and thinking %}"
    "{{'<think>'}}  {%- else %}{{'</think>'}}{%- endif %}{%- endif %}{%- set ns.is_last_user = false -%}{%- if ns.is_tool %}"
    "{{message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}"
    "{%- set content = message['content'] -%}{%- if '</think>' in content %}{%- set content = content.split('</think>', 1)[1] -%}"
    "{%- endif %}{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}"
    "{%- set ns.is_tool = true -%}{%- endif %}{%- endfor -%}{%- if add_generation_prompt and ns.is_last_user and not ns.is_tool %}"
    "{{'<｜Assistant｜>'}}{%- if not thinking %}{{'</think>'}}{%- else %}{{'<think>'}}{%- endif %}{% endif %}")
GPT_OSS = """{%- macro render_typescript_type(param_spec, required_params, is_nullable=false) -%}
    {%- if param_spec.type == "array" -%}{{- "[]" }}{%- endif -%}
{%- endmacro -%}
{%- macro render_tool_namespace(namespace_name, tools) -%}
    {{- "namespace " + namespace_name }}
{%- endmacro -%}
{%- macro render_builtin_tools(browser_tool, python_tool) -%}
    {{- "## browser" }}
{%- endmacro -%}

{#- System Message Construction ============================================ #}
{%- macro build_system_message() -%}
    {%- if model_identity is not defined %}
        {%- set model_identity = "You are ChatGPT, a large language model trained by OpenAI." %}
    {%- endif %}
    {{- model_identity + "\\n" }}
    {{- "Knowledge cutoff: 2024-06\\n" }}
    {{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n\\n" }}
    {%- if reasoning_effort is not defined %}
        {%- set reasoning_effort = "medium" %}
    {%- endif %}
    {{- "Reasoning: " + reasoning_effort + "\\n\\n" }}
    {%- if builtin_tools %}
        {{- "# Tools\\n\\n" }}
    {%- endif -%}
    {{- "# Valid channels: analysis, commentary, final. Channel must be included for every message." }}
    {%- if tools -%}
        {{- "\\nCalls to these tools must go to the commentary channel: 'functions'." }}
    {%- endif -%}
{%- endmacro -%}

{{- "<|start|>system<|message|>" }}
{{- build_system_message() }}
{{- "<|end|>" }}

{%- if messages[0].role == "developer" or messages[0].role == "system" %}
    {%- set developer_message = messages[0].content %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set developer_message = "" %}
    {%- set loop_messages = messages %}
{%- endif %}

{%- if developer_message or tools %}
    {{- "<|start|>developer<|message|>" }}
    {%- if developer_message %}
        {{- "# Instructions\\n\\n" }}
        {{- developer_message }}
        {{- "\\n\\n" }}
    {%- endif %}
    {%- if tools -%}
        {{- "# Tools\\n\\n" }}
    {%- endif -%}
    {{- "<|end|>" }}
{%- endif %}

{%- set last_tool_call = namespace(name=none) %}
{%- for message in loop_messages -%}
    {#- At this point only assistant/user/tool messages should remain #}
    {%- if message.role == 'assistant' -%}
        {%- if "content" in message %}
            {%- if "<|channel|>analysis<|message|>" in message.content or "<|channel|>final<|message|>" in message.content %}
                {{- raise_exception("You have passed a message containing <|channel|> tags in the content field.") }}
            {%- endif %}
        {%- endif %}
        {%- if "thinking" in message %}
            {{- raise_exception("thinking") }}
        {%- endif %}
        {%- if "tool_calls" in message %}
            {{- "<|call|>" }}
        {%- elif loop.last and not add_generation_prompt %}
            {%- if "thinking" in message %}
                {{- message.thinking }}
            {%- endif %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
        {%- else %}
            {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
            {%- set last_tool_call.name = none %}
        {%- endif %}
    {%- elif message.role == 'tool' -%}
        {{- "<|start|>functions." }}
    {%- elif message.role == 'user' -%}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- endif -%}
{%- endfor -%}

{#- Generation prompt #}
{%- if add_generation_prompt -%}
<|start|>assistant
{%- endif -%}"""
ZEPHYR = EACH + "\n{% if message['role'] == 'user' %}\n" + "{% elif".join(
    f"{head}{{{{ '<|{role}|>\n' + message['content'] + eos_token }}}}\n"
    for role, head in (("user", ""), ("system", " message['role'] == 'system' %}\n"), ("assistant", " message['role'] == 'assistant' %}\n"))
) + "{% endif %}\n{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"

# what recognises it, the template, what ends an answer, what its renderings leave to try: s(ystem turns) at the beginning
# only, a(lternating turns), n(o system turn), t(houghts)
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
]
REFUSED = {
    "trimmed": CHATML.replace("message['content']", "message['content'] | trim"),
    "other": "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
    "more": CHATML + "{{ '<think>' }}",
    "text": "Hello " + CHATML,
}
CONTENTS = ["Hi there", "", " leading and trailing ", "two\nlines\n", "ünï 🙂 {{ x }} {% y %}", "it's \"quoted\" \\n", "\n\n", " \t\r\n ",
            "\u00a0no break\u2003", "\u0085\u001c3\u200b", "<|im_end|><|eot_id|></s>", "{bos}{text0}", "x" * 40, "\n\na\n\nb\n\n"]
THOUGHTS = ["<think>\nhm\n</think>\n\nAnswer", "<think></think>x", "</think>", "a</think>b</think>\n\nc", "<think>no end",
            "\n<think>\n\n<think>\ntwo\n\n</think>\n\nrest\n", "<tool_response>\nx\n</tool_response>", "<think>\n\n</think>\n\n"]


def raise_exception(message):
    raise TemplateError(message)


environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
environment.globals["raise_exception"] = raise_exception
environment.globals["strftime_now"] = DATE.strftime


def render(template, messages, prompt, **more):
    """As transformers' apply_chat_template() calls it: special tokens are variables, tools None."""
    return template.render(messages=messages, tools=None, documents=None, add_generation_prompt=prompt, bos_token=BOS,
                           eos_token=EOS, **more)


def dialogue(rng, how):
    """Random messages that the template takes."""
    contents = CONTENTS + (THOUGHTS if "t" in how else [])
    messages, n = [], rng.randint(1, 5)
    if "n" not in how and rng.random() < .5:
        messages.append({"role": "system", "content": rng.choice(CONTENTS)})
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
    template = environment.from_string(source)
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
    template = environment.from_string(source)
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
