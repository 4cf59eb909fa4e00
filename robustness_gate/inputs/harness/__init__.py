"""lm-evaluation-harness's task files: `task_file` reads the YAML, `templates` runs its Jinja, `rows` makes the items.

A task file is untrusted: nothing in it is executed but templates in a sandbox, with limited time and memory. Text,
choices and delimiter are those of lm-evaluation-harness for the same row.
"""
