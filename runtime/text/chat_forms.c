/*
 * How the known chat templates look, brought to one form (template_priv.h). What serves tools is
 * left open, since there are none: so are the reasons of exceptions.
 */
#include "runtime/text/chat_priv.h"

#define ANY AG_FORM_ANY
#define DEAD AG_FORM_DEAD
#define TEXT AG_FORM_TEXT

/* We always say whether to add the prompt, so this does nothing. */
#define GUARD                                                                                      \
    "{%if not add_generation_prompt is defined%}{%set add_generation_prompt=false%}{%endif%}"
#define EACH "{%for message in messages%}"
#define PROMPT(text) "{%if add_generation_prompt%}{{'" text "'}}{%endif%}"
#define RAISE "{{raise_exception('" ANY "')}}"
#define SPLIT                                                                                      \
    "{%if messages[0].role=='system'%}{%set system_message=messages[0].content%}"                  \
    "{%set loop_messages=messages[1:]%}{%else%}{%set loop_messages=messages%}{%endif%}"
#define ALTERNATE(i) "{%if(message.role=='user')!=(" i "%2==0)%}" RAISE "{%endif%}"

#define IM_TURN(content) "{{'<|im_start|>'+message.role+'\\n'+" content "+'<|im_end|>\\n'}}"
#define IM_FIRST "{{'<|im_start|>system\\n'+messages[0].content+'<|im_end|>\\n'}}"
#define IM_DEFAULT "{{'<|im_start|>system\\n" TEXT "<|im_end|>\\n'}}"
#define IM_PROMPT PROMPT("<|im_start|>assistant\\n")

#define QWEN_SYSTEM                                                                                \
    "{%if tools%}" DEAD "{%else%}{%if messages[0].role=='system'%}" IM_FIRST "{%endif%}{%endif%}"
#define QWEN3_QUERY(more)                                                                          \
    "{%set ns=namespace(multi_step_tool=true,last_query_index=messages|length-1)%}"                \
    "{%for message in messages[::-1]%}{%set index=(messages|length-1)-loop.index0%}"               \
    "{%if ns.multi_step_tool and message.role=='user'" more                                        \
    "and not(message.content.startswith('<tool_response>')and "                                    \
    "message.content.endswith('</tool_response>'))%}{%set ns.multi_step_tool=false%}"              \
    "{%set ns.last_query_index=index%}{%endif%}{%endfor%}"
#define QWEN3_ANSWER                                                                               \
    "{%if loop.index0>ns.last_query_index%}"                                                       \
    "{%if loop.last or(not loop.last and reasoning_content)%}"                                     \
    "{{'<|im_start|>'+message.role+'\\n<think>\\n'+reasoning_content.strip('\\n')"                 \
    "+'\\n</think>\\n\\n'+content.lstrip('\\n')}}"                                                 \
    "{%else%}{{'<|im_start|>'+message.role+'\\n'+content}}{%endif%}"                               \
    "{%else%}{{'<|im_start|>'+message.role+'\\n'+content}}{%endif%}"                               \
    "{%if message.tool_calls%}" DEAD "{%endif%}{{'<|im_end|>\\n'}}"                                \
    "{%elif message.role=='tool'%}" DEAD "{%endif%}{%endfor%}"
#define QWEN3_SAYS "{%if(message.role=='user')or(message.role=='system'and not loop.first)%}"
#define QWEN3_OLD                                                                                  \
    QWEN_SYSTEM QWEN3_QUERY("") EACH QWEN3_SAYS IM_TURN(                                           \
        "message.content") "{%elif message.role=='assistant'%}{%set content=message.content%}"     \
                           "{%set reasoning_content=''%}"                                          \
                           "{%if message.reasoning_content is defined and "                        \
                           "message.reasoning_content is not none%}" DEAD                          \
                           "{%else%}{%if'</think>'in message.content%}"                            \
                           "{%set content=message.content.split('</think>')[-1].lstrip('\\n')%}"   \
                           "{%set "                                                                \
                           "reasoning_content=message.content.split('</think>')[0].rstrip('\\n')"  \
                           ".split('<think>')[-1].lstrip('\\n')%}{%endif%}{%endif%}" QWEN3_ANSWER
#define QWEN3_NEW                                                                                  \
    QWEN_SYSTEM QWEN3_QUERY("and message.content is string ") EACH                                 \
        "{%if message.content is string%}{%set content=message.content%}{%else%}" DEAD             \
        "{%endif%}" QWEN3_SAYS IM_TURN(                                                            \
            "content") "{%elif message.role=='assistant'%}{%set reasoning_content=''%}"            \
                       "{%if message.reasoning_content is string%}" DEAD                           \
                       "{%else%}{%if'</think>'in content%}"                                        \
                       "{%set reasoning_content=content.split('</think>')[0].rstrip('\\n')"        \
                       ".split('<think>')[-1].lstrip('\\n')%}"                                     \
                       "{%set "                                                                    \
                       "content=content.split('</"                                                 \
                       "think>')[-1].lstrip('\\n')%}{%endif%}{%endif%}" QWEN3_ANSWER
#define QWEN3_PROMPT                                                                               \
    "{%if add_generation_prompt%}{{'<|im_start|>assistant\\n'}}"                                   \
    "{%if enable_thinking is defined and enable_thinking is false%}"                               \
    "{{'<think>\\n\\n</think>\\n\\n'}}{%endif%}{%endif%}"
#define THINK_PROMPT PROMPT("<|im_start|>assistant\\n<think>\\n")

#define LLAMA3_HEADER "'<|start_header_id|>'+message.role+'<|end_header_id|>\\n\\n'"
#define LLAMA3_PROMPT "<|start_header_id|>assistant<|end_header_id|>\\n\\n"
#define LLAMA3                                                                                     \
    "{%set loop_messages=messages%}{%for message in loop_messages%}{%set content=" LLAMA3_HEADER   \
    "+message.content|trim+'<|eot_id|>'%}{%if loop.index0==0%}{%set content=bos_token+content%}"   \
    "{%endif%}{{content}}{%endfor%}"
#define LLAMA31(date, built_in)                                                                    \
    "{{bos_token}}{%if custom_tools is defined%}" DEAD                                             \
    "{%endif%}{%if not tools_in_user_message is defined%}{%set tools_in_user_message=true%}"       \
    "{%endif%}{%if not date_string is defined%}" date                                              \
    "{%endif%}{%if not tools is defined%}{%set tools=none%}{%endif%}"                              \
    "{%if messages[0].role=='system'%}{%set system_message=messages[0].content|trim%}"             \
    "{%set messages=messages[1:]%}{%else%}{%set system_message=''%}{%endif%}"                      \
    "{{'<|start_header_id|>system<|end_header_id|>\\n\\n'}}" built_in                              \
    "{{'Cutting Knowledge Date: December 2023\\nToday Date: '+date_string+'\\n\\n'}}"              \
    "{%if tools is not none and not tools_in_user_message%}" DEAD                                  \
    "{%endif%}{{system_message+'<|eot_id|>'}}"                                                     \
    "{%if tools_in_user_message and not tools is none%}" DEAD "{%endif%}" EACH                     \
    "{%if not(message.role=='ipython'or message.role=='tool'or'tool_calls'in message)%}"           \
    "{{" LLAMA3_HEADER "+message.content|trim+'<|eot_id|>'}}{%elif'tool_calls'in message%}" DEAD   \
    "{%elif message.role=='tool'or message.role=='ipython'%}" DEAD                                 \
    "{%endif%}{%endfor%}" PROMPT(LLAMA3_PROMPT)
#define LLAMA_DATE "{%set date_string='26 Jul 2024'%}"

#define GEMMA_ROLE                                                                                 \
    "{%if(message.role=='assistant')%}{%set role='model'%}{%else%}{%set role=message.role%}"       \
    "{%endif%}"
#define GEMMA_PROMPT PROMPT("<start_of_turn>model\\n")

#define MISTRAL_OLD(behind)                                                                        \
    "{{bos_token}}" EACH ALTERNATE(                                                                \
        "loop.index0") "{%if message.role=='user'%}{{'[INST] '+message.content+' [/INST]'}}"       \
                       "{%elif message.role=='assistant'%}{{message.content+eos_token" behind "}}" \
                       "{%else%}" RAISE "{%endif%}{%endfor%}"
#define MISTRAL_V3(call, inst, answer)                                                             \
    SPLIT "{%if not tools is defined%}{%set tools=none%}{%endif%}"                                 \
          "{%set user_messages=loop_messages|selectattr('role','equalto','user')|list%}"           \
          "{%set ns=namespace()%}{%set ns.index=0%}{%for message in loop_messages%}"               \
          "{%if not(message.role=='tool'or message.role=='tool_results'or"                         \
          "(message.tool_calls is defined and message.tool_calls is not none))%}" ALTERNATE(       \
              "ns.index") "{%set ns.index=ns.index+1%}{%endif%}{%endfor%}{{bos_token}}{%for "      \
                          "message in loop_messages%}"                                             \
                          "{%if message.role=='user'%}{%if tools is not none "                     \
                          "and(message==user_messages[-1])%}" DEAD                                 \
                          "{%endif%}{%if loop.last and system_message is defined%}"                \
                          "{{'" inst "'+system_message+'\\n\\n'+message.content+'[/INST]'}}"       \
                          "{%else%}{{'" inst "'+message.content+'[/INST]'}}{%endif%}{%elif" call   \
                          "%}" DEAD "{%elif message.role=='assistant'%}{{" answer "+eos_token}}"   \
                          "{%elif message.role=='tool_results'or message.role=='tool'%}" DEAD      \
                          "{%else%}" RAISE "{%endif%}{%endfor%}"
#define CALL " message.tool_calls is defined and message.tool_calls is not none"
#define CALL_IN "(message.tool_calls is defined and message.tool_calls is not none)"
#define TEKKEN_DEFAULT                                                                             \
    "{%set today=strftime_now('%Y-%m-%d')%}"                                                       \
    "{%set default_system_message='" TEXT "'+today+'" TEXT "'%}{{bos_token}}"
#define IS_TEXT(yes) "{%if message.content is string%}" yes "{%else%}" DEAD "{%endif%}"
#define TEKKEN_SYSTEM "{{'[SYSTEM_PROMPT]'+message.content+'[/SYSTEM_PROMPT]'}}"
#define TEKKEN_FIRST "{{'[SYSTEM_PROMPT]'+system_message+'[/SYSTEM_PROMPT]'}}"
#define TEKKEN_USER "{{'[INST]'+message.content+'[/INST]'}}"
#define TEKKEN_ANSWER "{{message.content+eos_token}}"

#define PHI3_TURN(role) "{{'<|" role "|>\\n'+message.content+'<|end|>\\n'}}"
#define PHI3_PROMPT                                                                                \
    "{%if add_generation_prompt%}{{'<|assistant|>\\n'}}{%else%}{{eos_token}}{%endif%}"
#define PHI3(said)                                                                                 \
    EACH "{%if message.role=='system'" said                                                        \
         "%}" PHI3_TURN("system") "{%elif message.role=='user'%}" PHI3_TURN(                       \
             "user") "{%elif message.role=='assistant'%}" PHI3_TURN("assistant") "{%endif%}{%"     \
                                                                                 "endfor%"         \
                                                                                 "}" PHI3_PROMPT
#define PHI3_OLD                                                                                   \
    EACH "{%if(message.role=='user')%}"                                                            \
         "{{'<|user|>\\n'+message.content+'<|end|>\\n<|assistant|>\\n'}}"                          \
         "{%elif(message.role=='assistant')%}{{message.content+'<|end|>\\n'}}{%endif%}{%endfor%}"

#define DEEPSEEK_NS(more)                                                                          \
    GUARD "{%set ns=namespace(is_first=false,is_tool=false,is_output_first=true,"                  \
          "system_prompt=''" more ")%}" EACH "{%if message.role=='system'%}"
#define DEEPSEEK_JOINED DEEPSEEK_NS(",is_first_sp=true") DEEPSEEK_JOIN
#define DEEPSEEK_JOIN                                                                              \
    "{%if ns.is_first_sp%}{%set ns.system_prompt=ns.system_prompt+message.content%}"               \
    "{%set ns.is_first_sp=false%}{%else%}"                                                         \
    "{%set ns.system_prompt=ns.system_prompt+'\\n\\n'+message.content%}{%endif%}"
#define DEEPSEEK_LAST DEEPSEEK_NS("") "{%set ns.system_prompt=message.content%}"
#define DEEPSEEK_TURNS(call, answer, says, prompt)                                                   \
    "{%endif%}{%endfor%}{{bos_token+ns.system_prompt}}" EACH                                         \
    "{%if message.role=='user'%}{%set ns.is_tool=false%}{{'<｜User｜>'+message.content}}{%endif%}" \
    "{%if message.role=='assistant'and" call "%}" DEAD                                               \
    "{%endif%}{%if message.role=='assistant'and" answer "%}{%if ns.is_tool%}" DEAD "{%else%}" says   \
    "{%endif%}{%endif%}{%if message.role=='tool'%}" DEAD                                             \
    "{%endif%}{%endfor%}{%if ns.is_tool%}" DEAD "{%endif%}"                                          \
    "{%if add_generation_prompt and not ns.is_tool%}{{'" prompt "'}}{%endif%}"
#define SAYS "{{'<｜Assistant｜>'+message.content+'<｜end▁of▁sentence｜>'}}"
#define SAYS_CUT                                                                                   \
    "{%set content=message.content%}{%if'</think>'in content%}"                                    \
    "{%set content=content.split('</think>')[-1]%}{%endif%}"                                       \
    "{{'<｜Assistant｜>'+content+'<｜end▁of▁sentence｜>'}}"
/* how a call of tools is told from an answer: in two generations of the templates */
#define BY_CONTENT " message.content is none", " message.content is not none"
#define BY_CALLS "'tool_calls'in message", "'tool_calls'not in message"
#define DEEPSEEK(system, by, says, prompt) DEEPSEEK_EXPANDED(system, by, says, prompt)
#define DEEPSEEK_EXPANDED(system, call, answer, says, prompt)                                      \
    system DEEPSEEK_TURNS(call, answer, says, prompt)
/* from V3-0324 and R1-0528 on */
#define DEEPSEEK_ASKED                                                                             \
    "{%if message.role=='user'%}{%set ns.is_tool=false%}{%set ns.is_first=false%}"                 \
    "{%set ns.is_last_user=true%}"
#define DEEPSEEK_ASKS(set, content, cut, say)                                                      \
    DEEPSEEK_NS(",is_first_sp=true,is_last_user=false")                                            \
    DEEPSEEK_JOIN                                                                                  \
    "{%endif%}{%endfor%}{{bos_token+ns.system_prompt}}" EACH set DEEPSEEK_ASKED                    \
    "{{'<｜User｜>'+" content "+'<｜Assistant｜>'}}{%endif%}" cut DEEPSEEK_CALLS                   \
    "{%set ns.is_last_user=false%}{%if ns.is_tool%}" DEAD "{%else%}" say                           \
    "{{content+'<｜end▁of▁sentence｜>'}}{%endif%}{%endif%}{%if message.role=='tool'%}" DEAD        \
    "{%endif%}{%endfor%}{%if ns.is_tool%}" DEAD "{%endif%}"                                        \
    "{%if add_generation_prompt and not ns.is_last_user and not ns.is_tool%}"                      \
    "{{'<｜Assistant｜>'}}{%endif%}"
#define DEEPSEEK_CALLS                                                                             \
    "{%if message.role=='assistant'and message.tool_calls is defined and "                         \
    "message.tool_calls is not none%}" DEAD "{%endif%}{%if message.role=='assistant'and"           \
    "(message.tool_calls is not defined or message.tool_calls is none)%}"
#define SET_CONTENT "{%set content=message.content%}"
#define R1_PROMPT "<｜Assistant｜><think>\\n"

#define MACRO(name) "{%macro " name "%}" DEAD "{%endmacro%}"

/* as Unsloth made it; its own model has none */
/* clang-format off */
#define DEVSTRAL                                                                                   \
    "{%set default_system_message='" TEXT "'%}{{bos_token}}"                                       \
    "{%if messages[0].role=='system'%}{%if messages[0].content is string%}"                        \
    "{%set system_message=messages[0].content%}{%else%}" DEAD "{%endif%}"                          \
    "{%set loop_messages=messages[1:]%}{%else%}{%set system_message=default_system_message%}"      \
    "{%set loop_messages=messages%}{%endif%}" TEKKEN_FIRST                                         \
    "{%set tools_description=''%}{%set has_tools=false%}"                                          \
    "{%if tools is defined and tools is not none and tools|length>0%}" DEAD "{%endif%}"            \
    "{%for message in loop_messages%}{%if message.role=='user'%}" IS_TEXT(TEKKEN_USER)             \
    "{%elif message.role=='system'%}" IS_TEXT(TEKKEN_SYSTEM)                                       \
    "{%elif message.role=='assistant'%}" IS_TEXT("{{message.content}}")                            \
    "{%if message.tool_calls is defined and message.tool_calls is not none%}" DEAD                 \
    "{%endif%}{{eos_token}}{%elif message.role=='tool_results'or message.role=='tool'%}" DEAD      \
    "{%else%}" RAISE "{%endif%}{%endfor%}"
#define SMOLLM3                                                                                    \
    "{%if enable_thinking is not defined%}{%set enable_thinking=true%}{%endif%}"                   \
    "{%if enable_thinking%}{%set reasoning_mode='/think'%}{%else%}"                                \
    "{%set reasoning_mode='/no_think'%}{%endif%}{{'<|im_start|>system\\n'}}"                       \
    "{%if messages[0].role=='system'%}{%set system_message=messages[0].content%}"                  \
    "{%if'/no_think'in system_message%}{%set reasoning_mode='/no_think'%}"                         \
    "{%elif'/think'in system_message%}{%set reasoning_mode='/think'%}{%endif%}"                    \
    "{%set custom_instructions=system_message.replace('/no_think','')"                             \
    ".replace('/think','').rstrip()%}{%endif%}{%if'/system_override'in system_message%}"           \
    "{{custom_instructions.replace('/system_override','').rstrip()+'<|im_end|>\\n'}}{%else%}"      \
    "{{'## Metadata\\n\\nKnowledge Cutoff Date: June 2025\\n'}}"                                   \
    "{%set today=strftime_now('%d %B %Y')%}{{'Today Date: '~today~'\\nReasoning Mode: '"           \
    "+reasoning_mode+'\\n\\n## Custom Instructions\\n\\n'}}{%if custom_instructions%}"             \
    "{{custom_instructions+'\\n\\n'}}{%elif reasoning_mode=='/think'%}{{'" TEXT "'}}{%else%}"      \
    "{{'" TEXT "'}}{%endif%}{%if xml_tools or python_tools%}" DEAD "{%endif%}{%endif%}" EACH       \
    "{%set content=message.content if message.content is string else''%}"                          \
    "{%if message.role=='user'%}" IM_TURN("content") "{%elif message.role=='assistant'%}"          \
    "{%generation%}{%if reasoning_mode=='/think'%}"                                                \
    "{{'<|im_start|>assistant\\n'+content.lstrip('\\n')+'<|im_end|>\\n'}}{%else%}"                 \
    "{{'<|im_start|>assistant\\n<think>\\n\\n</think>\\n'+content.lstrip('\\n')"                   \
    "+'<|im_end|>\\n'}}{%endif%}{%endgeneration%}{%elif message.role=='tool'%}" DEAD               \
    "{%endif%}{%endfor%}{%if add_generation_prompt%}{%if reasoning_mode=='/think'%}"               \
    "{{'<|im_start|>assistant\\n'}}{%else%}{{'<|im_start|>assistant\\n<think>\\n\\n</think>\\n'}}" \
    "{%endif%}{%endif%}"
/* clang-format on */

const ag_chat_form_t ag_chat_forms[] = {
    {AG_CHAT_CHATML, EACH IM_TURN("message.content") "{%endfor%}" IM_PROMPT},
    /* with a default system turn: SmolLM2, Qwen2 */
    {AG_CHAT_CHATML, EACH "{%if loop.first and messages[0].role!='system'%}" IM_DEFAULT
                          "{%endif%}" IM_TURN("message.content") "{%endfor%}" IM_PROMPT},
    {AG_CHAT_QWEN25,
     "{%if tools%}" DEAD "{%else%}{%if messages[0].role=='system'%}" IM_FIRST "{%else%}" IM_DEFAULT
     "{%endif%}{%endif%}" EACH "{%if(message.role=='user')or"
     "(message.role=='system'and not loop.first)or"
     "(message.role=='assistant'and not message.tool_calls)%}" IM_TURN(
         "message.content") "{%elif message.role=='assistant'%}" DEAD
                            "{%elif message.role=='tool'%}" DEAD "{%endif%}{%endfor%}" IM_PROMPT},
    {AG_CHAT_QWEN3, QWEN3_OLD QWEN3_PROMPT},
    {AG_CHAT_QWEN3, QWEN3_NEW QWEN3_PROMPT},
    {AG_CHAT_QWEN3_THINKING, QWEN3_NEW THINK_PROMPT},
    {AG_CHAT_QWQ,
     QWEN_SYSTEM EACH QWEN3_SAYS IM_TURN(
         "message.content") "{%elif message.role=='assistant'and not message.tool_calls%}{%set "
                            "content=message.content%}"
                            "{%if not loop.last%}{%set "
                            "content=message.content.split('</think>')[-1].lstrip('\\n')%}"
                            "{%endif%}" IM_TURN("content") "{%elif message.role=='assistant'%}" DEAD
                                                           "{%elif message.role=='tool'%}" DEAD
                                                           "{%endif%}{%endfor%}" THINK_PROMPT},
    {AG_CHAT_LLAMA2,
     "{%if messages[0].role=='system'%}{%set loop_messages=messages[1:]%}"
     "{%set system_message=messages[0].content%}{%else%}{%set loop_messages=messages%}"
     "{%set system_message=false%}{%endif%}{%for message in loop_messages%}" ALTERNATE(
         "loop.index0") "{%if loop.index0==0 and system_message!=false%}"
                        "{%set "
                        "content='<<SYS>>\\n'+system_message+'\\n<</SYS>>\\n\\n'+message.content%}"
                        "{%else%}{%set content=message.content%}{%endif%}{%if "
                        "message.role=='user'%}"
                        "{{bos_token+'[INST] '+content.strip()+' [/INST]'}}{%elif "
                        "message.role=='assistant'%}"
                        "{{' '+content.strip()+' '+eos_token}}{%endif%}{%endfor%}"},
    {AG_CHAT_LLAMA3, LLAMA3 PROMPT(LLAMA3_PROMPT)},
    {AG_CHAT_LLAMA3_PROMPTING, LLAMA3 "{{'" LLAMA3_PROMPT "'}}"},
    {AG_CHAT_LLAMA31,
     LLAMA31(LLAMA_DATE, "{%if builtin_tools is defined or tools is not none%}" DEAD
                         "{%endif%}{%if builtin_tools is defined%}" DEAD "{%endif%}")},
    {AG_CHAT_LLAMA32, LLAMA31("{%if strftime_now is defined%}{%set date_string=strftime_now('%d %b "
                              "%Y')%}{%else%}" LLAMA_DATE "{%endif%}",
                              "{%if tools is not none%}" DEAD "{%endif%}")},
    {AG_CHAT_GEMMA, "{{bos_token}}{%if messages[0].role=='system'%}" RAISE
                    "{%endif%}" EACH ALTERNATE("loop.index0") GEMMA_ROLE
     "{{'<start_of_turn>'+role+'\\n'+message.content|trim+'<end_of_turn>\\n'}}{%endfor%"
     "}" GEMMA_PROMPT},
    {AG_CHAT_GEMMA3,
     "{{bos_token}}{%if messages[0].role=='system'%}{%if messages[0].content is string%}"
     "{%set first_user_prefix=messages[0].content+'\\n\\n'%}{%else%}" DEAD "{%endif%}"
     "{%set loop_messages=messages[1:]%}{%else%}{%set first_user_prefix=''%}"
     "{%set loop_messages=messages%}{%endif%}{%for message in loop_messages%}" ALTERNATE(
         "loop.index0") GEMMA_ROLE
     "{{'<start_of_turn>'+role+'\\n'+(first_user_prefix if loop.first else'')}}"
     "{%if message.content is string%}{{message.content|trim}}"
     "{%elif message.content is iterable%}" DEAD "{%else%}" DEAD "{%endif%}"
     "{{'<end_of_turn>\\n'}}{%endfor%}" GEMMA_PROMPT},
    {AG_CHAT_MISTRAL_V01, MISTRAL_OLD("+' '")},
    {AG_CHAT_MISTRAL_V02, MISTRAL_OLD("")},
    {AG_CHAT_MISTRAL_V1,
     SPLIT "{{bos_token}}{%for message in loop_messages%}" ALTERNATE(
         "loop.index0") "{%if message.role=='user'%}{%if loop.first and system_message is defined%}"
                        "{{' [INST] '+system_message+'\\n\\n'+message.content+' [/INST]'}}"
                        "{%else%}{{' [INST] '+message.content+' [/INST]'}}{%endif%}"
                        "{%elif message.role=='assistant'%}{{' '+message.content+eos_token}}"
                        "{%else%}" RAISE "{%endif%}{%endfor%}"},
    {AG_CHAT_MISTRAL_V3, MISTRAL_V3(CALL, "[INST] ", "' '+message.content|trim")},
    {AG_CHAT_MISTRAL_V3, MISTRAL_V3(CALL_IN, "[INST] ", "' '+message.content|trim")},
    {AG_CHAT_MISTRAL_V3_TEKKEN, MISTRAL_V3(CALL, "[INST]", "message.content")},
    {AG_CHAT_MISTRAL_V3_TEKKEN, MISTRAL_V3(CALL_IN, "[INST]", "message.content")},
    {AG_CHAT_MISTRAL_V7,
     "{{bos_token}}" EACH "{%if message.role=='user'%}{{'[INST] '+message.content+'[/INST]'}}"
     "{%elif message.role=='system'%}{{'[SYSTEM_PROMPT] '+message.content+'[/SYSTEM_PROMPT]'}}"
     "{%elif message.role=='assistant'%}{{' '+message.content+eos_token}}{%else%}" RAISE
     "{%endif%}{%endfor%}"},
    /* Mistral Small 2501, 2503, 2506 */
    {AG_CHAT_MISTRAL_V7_TEKKEN, TEKKEN_DEFAULT
     "{%if messages[0].role=='system'%}{%set system_message=messages[0].content%}"
     "{%set loop_messages=messages[1:]%}{%else%}{%set system_message=default_system_message%}"
     "{%set loop_messages=messages%}{%endif%}" TEKKEN_FIRST "{%for message in loop_messages%}"
     "{%if message.role=='user'%}" TEKKEN_USER "{%elif message.role=='system'%}" TEKKEN_SYSTEM
     "{%elif message.role=='assistant'%}" TEKKEN_ANSWER "{%else%}" RAISE "{%endif%}{%endfor%}"},
    {AG_CHAT_MISTRAL_V7_TEKKEN, TEKKEN_DEFAULT
     "{%if messages[0].role=='system'%}{%if messages[0].content is string%}"
     "{%set system_message=messages[0].content%}{%else%}" DEAD "{%endif%}"
     "{%set loop_messages=messages[1:]%}{%else%}{%set system_message=default_system_message%}"
     "{%set loop_messages=messages%}{%endif%}" TEKKEN_FIRST "{%for message in loop_messages%}"
     "{%if message.role=='user'%}" IS_TEXT(TEKKEN_USER) "{%elif message.role=='system'%}" IS_TEXT(
         TEKKEN_SYSTEM) "{%elif message.role=='assistant'%}" IS_TEXT(TEKKEN_ANSWER) "{%else%}" RAISE
                                                                                    "{%endif%}{%"
                                                                                    "endfor%}"},
    {AG_CHAT_MISTRAL_V7_STRICT, TEKKEN_DEFAULT
     "{%set system_prompt=default_system_message%}{%set loop_messages=messages%}"
     "{%if not tools is defined%}{%set tools=none%}{%endif%}"
     "{%if messages|length>0 and messages[0].role=='system'%}"
     "{%if messages[0].content is string%}{%set system_prompt=messages[0].content%}{%else%}" DEAD
     "{%endif%}{%set loop_messages=messages[1:]%}{%endif%}"
     "{%set user_messages=loop_messages|selectattr('role','equalto','user')|list%}"
     "{%set ns=namespace(index=0)%}{%for message in loop_messages%}"
     "{%if not(message.role=='tool'or(message.get('tool_calls')))%}" ALTERNATE(
         "ns.index") "{%set ns.index=ns.index+1%}{%endif%}{%endfor%}"
                     "{{'[SYSTEM_PROMPT]'+system_prompt+'[/SYSTEM_PROMPT]'}}{%for message in "
                     "loop_messages%}"
                     "{%if message.role=='system'%}" IS_TEXT(
                         TEKKEN_SYSTEM) "{%elif message.role=='user'%}"
                                        "{%if tools is not none "
                                        "and(message==user_messages[-1])%}" DEAD
                                        "{%endif%}{{'[INST]'}}" IS_TEXT(
                                            "{{message.content}}") "{{'[/INST]'}}{%elif "
                                                                   "message.role=='assistant'%}"
                                                                   "{%if "
                                                                   "message.get('tool_calls')%"
                                                                   "}" DEAD
                                                                   "{%elif message.content is "
                                                                   "string%}" TEKKEN_ANSWER
                                                                   "{%else%}" DEAD
                                                                   "{%endif%}{%elif "
                                                                   "message.role=='tool_results'or "
                                                                   "message.role=='tool'%}" DEAD
                                                                   "{%else%}" RAISE
                                                                   "{%endif%}{%endfor%}"},
    {AG_CHAT_DEVSTRAL, DEVSTRAL},
    {AG_CHAT_SMOLLM3, SMOLLM3},
    {AG_CHAT_PHI3, PHI3("")},
    {AG_CHAT_PHI35, PHI3("and message.content")},
    {AG_CHAT_PHI3_SMALL,
     "{{bos_token}}" EACH
     "{{'<|'+message.role+'|>\\n'+message.content+'<|end|>\\n'}}{%endfor%}" PHI3_PROMPT},
    {AG_CHAT_PHI3_OLD, "{{bos_token}}" PHI3_OLD},
    {AG_CHAT_PHI3_MEDIUM, PHI3_OLD},
    {AG_CHAT_PHI4,
     EACH "{%if(message.role=='system')%}{{'<|im_start|>system<|im_sep|>'+message.content+"
          "'<|im_end|>'}}{%elif(message.role=='user')%}{{'<|im_start|>user<|im_sep|>'+"
          "message.content+'<|im_end|><|im_start|>assistant<|im_sep|>'}}"
          "{%elif(message.role=='assistant')%}{{message.content+'<|im_end|>'}}{%endif%}{%endfor%}"},
    {AG_CHAT_PHI4_MINI,
     EACH "{%if message.role=='system'and'tools'in message and message.tools is not none%}" DEAD
          "{%else%}{{'<|'+message.role+'|>'+message.content+'<|end|>'}}{%endif%}{%endfor%}"
          "{%if add_generation_prompt%}{{'<|assistant|>'}}{%else%}{{eos_token}}{%endif%}"},
    {AG_CHAT_DEEPSEEK2,
     GUARD "{{bos_token}}" EACH "{%if message.role=='user'%}{{'User: '+message.content+'\\n\\n'}}"
           "{%elif message.role=='assistant'%}{{'Assistant: '+message.content+eos_token}}"
           "{%elif message.role=='system'%}{{message.content+'\\n\\n'}}{%endif%}{%endfor%}" PROMPT(
               "Assistant:")},
    {AG_CHAT_DEEPSEEK3, DEEPSEEK(DEEPSEEK_JOINED, BY_CONTENT, SAYS, "<｜Assistant｜>")},
    {AG_CHAT_DEEPSEEK3, DEEPSEEK(DEEPSEEK_JOINED, BY_CALLS, SAYS, "<｜Assistant｜>")},
    {AG_CHAT_DEEPSEEK_R1_OLD, DEEPSEEK(DEEPSEEK_JOINED, BY_CONTENT, SAYS_CUT, "<｜Assistant｜>")},
    {AG_CHAT_DEEPSEEK_R1_OLD, DEEPSEEK(DEEPSEEK_JOINED, BY_CALLS, SAYS_CUT, "<｜Assistant｜>")},
    {AG_CHAT_DEEPSEEK_R1, DEEPSEEK(DEEPSEEK_JOINED, BY_CONTENT, SAYS_CUT, R1_PROMPT)},
    {AG_CHAT_DEEPSEEK_R1, DEEPSEEK(DEEPSEEK_JOINED, BY_CALLS, SAYS_CUT, R1_PROMPT)},
    {AG_CHAT_DEEPSEEK_R1_DISTILL, DEEPSEEK(DEEPSEEK_LAST, BY_CONTENT, SAYS_CUT, R1_PROMPT)},
    {AG_CHAT_DEEPSEEK3_0324, DEEPSEEK_ASKS("", "message.content", "", SET_CONTENT)},
    {AG_CHAT_DEEPSEEK_R1_0528,
     DEEPSEEK_ASKS(SET_CONTENT, "content",
                   "{%if message.role=='assistant'%}{%if'</think>'in content%}"
                   "{%set content=content.split('</think>')[-1]%}{%endif%}{%endif%}",
                   "")},
    {AG_CHAT_DEEPSEEK31, GUARD
     "{%if not thinking is defined%}{%set thinking=false%}{%endif%}"
     "{%set ns=namespace(is_first=false,is_tool=false,system_prompt='',is_first_sp=true,"
     "is_last_user=false)%}" EACH "{%if message.role=='system'%}" DEEPSEEK_JOIN
     "{%endif%}{%endfor%}{{bos_token+ns.system_prompt}}" EACH DEEPSEEK_ASKED
     "{{'<｜User｜>'+message.content}}{%endif%}" DEEPSEEK_CALLS
     "{%if ns.is_last_user%}{{'<｜Assistant｜>'}}"
     "{%if message.prefix is defined and message.prefix and thinking%}" DEAD
     "{%else%}{{'</think>'}}{%endif%}{%endif%}{%set ns.is_last_user=false%}{%if ns.is_tool%}" DEAD
     "{%else%}" SET_CONTENT "{%if'</think>'in content%}"
     "{%set content=content.split('</think>',1)[1]%}{%endif%}"
     "{{content+'<｜end▁of▁sentence｜>'}}{%endif%}{%endif%}{%if message.role=='tool'%}" DEAD
     "{%endif%}{%endfor%}{%if add_generation_prompt and ns.is_last_user and not ns.is_tool%}"
     "{{'<｜Assistant｜>'}}{%if not thinking%}{{'</think>'}}{%else%}{{'<think>'}}{%endif%}"
     "{%endif%}"},
    {AG_CHAT_GPT_OSS,
     MACRO("render_typescript_type(param_spec,required_params,is_nullable=false)")
         MACRO("render_tool_namespace(namespace_name,tools)") MACRO(
             "render_builtin_tools(browser_tool,python_tool)") "{%macro "
                                                               "build_system_message()%}{%if "
                                                               "model_identity is not defined%}"
                                                               "{%set model_identity='You are "
                                                               "ChatGPT, a large language model "
                                                               "trained by OpenAI.'%}"
                                                               "{%endif%}{{model_identity+'"
                                                               "\\nKnowledge cutoff: "
                                                               "2024-06\\nCurrent date: '+"
                                                               "strftime_now('%Y-%m-%d')+'\\n\\n'}}"
                                                               "{%if reasoning_effort is not "
                                                               "defined%}"
                                                               "{%set "
                                                               "reasoning_effort='medium'%}{%endif%"
                                                               "}{{'Reasoning: "
                                                               "'+reasoning_effort+'\\n\\n'}}"
                                                               "{%if builtin_tools%}" DEAD
                                                               "{%endif%}{{'# Valid channels: "
                                                               "analysis, commentary, final. "
                                                               "Channel must be included for every "
                                                               "message.'}}{%if tools%}" DEAD
                                                               "{%endif%}{%endmacro%}"
                                                               "{{'<|start|>system<|message|>'+"
                                                               "build_system_message()+'<|end|>'}}"
                                                               "{%if "
                                                               "messages[0].role=='developer'or "
                                                               "messages[0].role=='system'%}"
                                                               "{%set "
                                                               "developer_message=messages[0]."
                                                               "content%}{%set "
                                                               "loop_messages=messages[1:]%}{%else%"
                                                               "}"
                                                               "{%set developer_message=''%}{%set "
                                                               "loop_messages=messages%}{%endif%}"
                                                               "{%if developer_message or "
                                                               "tools%}{{'<|start|>developer<|"
                                                               "message|>'}}"
                                                               "{%if developer_message%}{{'# "
                                                               "Instructions\\n\\n'+developer_"
                                                               "message+'\\n\\n'}}{%endif%}"
                                                               "{%if tools%}" DEAD
                                                               "{%endif%}{{'<|end|>'}}{%endif%}"
                                                               "{%set "
                                                               "last_tool_call=namespace(name=none)"
                                                               "%}{%for message in loop_messages%}"
                                                               "{%if "
                                                               "message.role=='assistant'%}{%if'"
                                                               "content'in message%}"
                                                               "{%if'<|channel|>analysis<|message|>"
                                                               "'in message.content or"
                                                               "'<|channel|>final<|message|>'in "
                                                               "message.content%}" RAISE
                                                               "{%endif%}{%endif%}"
                                                               "{%if'thinking'in message%}" DEAD
                                                               "{%endif%}{%if'tool_calls'in "
                                                               "message%}" DEAD
                                                               "{%elif loop.last and not "
                                                               "add_generation_prompt%}{%if'"
                                                               "thinking'in message%}" DEAD
                                                               "{%endif%}"
                                                               "{{'<|start|>assistant<|channel|>"
                                                               "final<|message|>'+message.content+'"
                                                               "<|return|>'}}{%else%}"
                                                               "{{'<|start|>assistant<|channel|>"
                                                               "final<|message|>'+message.content+'"
                                                               "<|end|>'}}"
                                                               "{%set "
                                                               "last_tool_call.name=none%}{%endif%}"
                                                               "{%elif message.role=='tool'%}" DEAD
                                                               "{%elif "
                                                               "message.role=='user'%}{{'<|start|>"
                                                               "user<|message|>'+message.content+'<"
                                                               "|end|>'}}"
                                                               "{%endif%}{%endfor%}" PROMPT(
                                                                   "<|start|>assistant")},
    {AG_CHAT_ZEPHYR,
     EACH "{%if message.role=='user'%}{{'<|user|>\\n'+message.content+eos_token+'\\n'}}"
          "{%elif message.role=='system'%}{{'<|system|>\\n'+message.content+eos_token+'\\n'}}"
          "{%elif message.role=='assistant'%}{{'<|assistant|>\\n'+message.content+eos_token+'\\n'}}"
          "{%endif%}{%if loop.last and add_generation_prompt%}{{'<|assistant|>\\n'}}{%endif%}"
          "{%endfor%}"},
};
const size_t ag_n_chat_forms = sizeof(ag_chat_forms) / sizeof(ag_chat_forms[0]);
