"""Words of the log for why there was no answer. (Its pages are in test_views, with their messages.)"""

from __future__ import annotations

import re
from pathlib import Path

from admin.webhooks import dialing
from admin.webhooks.log import REASONS
from admin.webhooks.worker import NO_SECRET


def test_each_reason_has_its_words() -> None:
    source = Path(str(dialing.__file__)).read_text()
    assert set(re.findall(r'Undelivered\("(\w+)"\)', source)) | {NO_SECRET} == set(REASONS)
