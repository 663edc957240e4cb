"""Outgoing webhooks, in the order a message travels.

1. `worker`: takes deliveries that are due, and says what came of each. In the admin server, or `standalone`.
2. `message`: the headers, and the signatures.
3. `dialing`: resolves, connects, sends, reads; by what `safe_address` allows.

`views` and `log` are the pages. What a message is, and what follows from a try, is in `storage`
(webhook_events, webhook_schedule).
"""
