"""The coordinator: builds all parts on one connection, starts them, and closes them in reverse.

`coordinator` is what users call; `status_report` gathers the report, `survey` finds what others
have written under tideover's keys, `catalog` lists what a namespace has in etcd. What a primitive does is in its
own folder: here parts are only put together.
"""
