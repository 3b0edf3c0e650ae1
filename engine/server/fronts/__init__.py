"""Front processes: they take the connections of a server, and leave to its process what only one process can do.

A front accepts, does TLS, checks tokens, cuts and checks lines as strictly as a server without fronts does, with the
same code: its connections are `Connection`. What is good goes to the writer's process over one stream, in which the
requests of all its connections follow each other; replies come back in the same way, and the front gives each to whose
it is. Nothing here is imported by a server without fronts.

    frames     the stream, cut into frames: pure
    notes      what both sides tell each other beside requests and replies: pure
    reader     from lines to requests that are good and left as they came: pure
    order      what a front is given when it is started: pure
    front, connection, uplink, child      the front's process
    fronts, process, link, guest          the writer's process
"""

__all__: list[str] = []
