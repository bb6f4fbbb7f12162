/* What templates are compared by: their form, and what it leaves open. */
#include <criterion/criterion.h>

#include "runtime/text/template_priv.h"

static void expect_form(const char *template, const char *form)
{
    ag_array_t found = AG_ARRAY(char);

    cr_assert_eq(ag_template_form(template, &found), AG_OK);
    cr_expect_str_eq(found.items, form, "%s becomes %s", template, AG_ITEMS(&found, char));
    ag_array_fini(&found);
}

Test(template, tags_are_brought_to_one_form)
{
    expect_form("{%-  if   a  -%}", "{%if a%}");
    expect_form("{{ a [ 'b' ] . c }}", "{{a.b.c}}");
    expect_form("{{ a['1'] }}", "{{a['1']}}");
    expect_form("{{ \"a'b\" + 'c\\\\' }}", "{{'a\\'bc\\\\'}}");
    expect_form("{{ a }}{{ 'b' }}\n", "{{a+'b'}}");
    expect_form("{% if a %}\n  {% endif %}\n", "{%if a%}{%endif%}");
    expect_form("{{ '%}' }}", "{{'%}'}}");
    expect_form("{{ a != b }}", "{{a!=b}}");
    expect_form("{{ a ! = b }}", "{{a! =b}}"); /* which is an error in Jinja */
}

Test(template, text_that_would_be_written_is_a_literal)
{
    expect_form("{{ a }} {{ b }}", "{{a+' '+b}}");
    expect_form("{{ a }}\n{{ b }}", "{{a+'\\n'+b}}");
    expect_form("{% if a %}\n\n{% endif %}", "{%if a%}{{'\\n'}}{%endif%}");
    expect_form("{% if a %} {% endif %}", "{%if a%}{{' '}}{%endif%}");
    expect_form("{{ a }}  ", "{{a+'  '}}");
    expect_form("a'b\\{{ 'c' }}\n", "{{'a\\'b\\\\c'}}");
    expect_form("{% if a -%}\n x y\n {%- endif %}\n\n", "{%if a%}{{'x y'}}{%endif%}");
    expect_form("  {% if a %}\n  x\n  {% endif %}y\r\n", "{%if a%}{{'  x\\n'}}{%endif%}{{'y'}}");
    expect_form("x {% if a %}{% endif %}", "{{'x '}}{%if a%}{%endif%}");
}

Test(template, comments_say_nothing)
{
    expect_form("{# a #}{{ b }}{#- c -#} {{ d }}", "{{b+d}}");
    expect_form("{{ a }}{# b #}\n{{ c }}", "{{a+c}}");
    expect_form("{{ a }}\n  {# b #}\n{{ c }}", "{{a+'\\n'+c}}");
    expect_form("{{ a }}{# b", "");
}

Test(template, a_choice_is_not_joined_to_what_stands_beside_it)
{
    expect_form("{{ a }}{{ b if c else d }}{{ e }}{{ f }}", "{{a}}{{b if c else d}}{{e+f}}");
    expect_form("{{ a in ['b', 'c'] }}", "{{a in['b','c']}}");
}

Test(template, what_a_form_leaves_open_is_found)
{
    static const char form[] = "{{'a" AG_FORM_TEXT "b'+c+'" AG_FORM_TEXT "'+d+'" AG_FORM_ANY
                               "e'}}{%if x%}" AG_FORM_DEAD "{%endif%}";
    ag_template_text_t found[AG_FORM_MOST_TEXTS];
    size_t n;

    cr_expect(ag_template_matches("{{'a\\'cb'+c+''+d+'e'}}{%if x%}{%if y%}{{'%}'}}{%else%}{%endif%}"
                                  "{%macro m%}{%endmacro%}{%endif%}",
                                  form, found, &n));
    cr_assert_eq(n, 2);
    cr_assert_eq(found[0].n_bytes, 3);
    cr_expect_arr_eq(found[0].bytes, "\\'c", 3);
    cr_expect_eq(found[1].n_bytes, 0);
    cr_expect_not(ag_template_matches("{{'ac'+c+''+d+'e'}}{%if x%}{%endif%}", form, found, &n));
    cr_expect_not(
        ag_template_matches("{{'ab'+c+''+d+'e'}}{%if x%}{%else%}{%endif%}", form, found, &n));
    cr_expect_not(ag_template_matches("{{'ab'+c+''+d+'f'}}{%if x%}{%endif%}", form, found, &n));
    cr_expect_not(ag_template_matches("{{'a", form, found, &n));
}
