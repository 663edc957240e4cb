"""WebSockets: OpenAI's Realtime API, the WebSocket mode of its Responses API, and its Live API.

A socket is one HTTP request that never ends and many responses upon it. Order of the files::

    upgrade   which sockets there are, and what both heads of the handshake say
    serve     who asks, and where the socket may go
    handshake with one target after another, until a provider agrees           → Relay
    relay     frames both ways as they came, each direction a task, and every way it may end
    frames    sans-IO: where frames and messages end, and what a message says
    events    what the messages say, as far as anybody looks
    turns     what each response may use, and what it used: a reservation and a usage row each
    live      the same for sessions that cost by the second

docs/decisions/0070 argues the choices.
"""
