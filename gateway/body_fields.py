"""The fields of a JSON body that Karta reads.

Apart from `api_request`, because msgspec's classes are not for mypyc (see docs/decisions/0003).
"""

from __future__ import annotations

import msgspec


class BodyFields(msgspec.Struct, gc=False):
    """What Karta reads of a JSON body, of whatever type it is: judging types is the provider's business."""

    model: object = None
    stream: object = None
    max_tokens: object = None
    max_completion_tokens: object = None
    max_output_tokens: object = None
    n: object = None
    service_tier: object = None
    previous_response_id: object = None
    conversation: object = None
    container: object = None
    background: object = None
