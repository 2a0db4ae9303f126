"""JSON that others wrote."""

import json
from typing import Any


def parse_json(text: str | bytes) -> Any:
    """``json.loads``, which raises ``JSONDecodeError`` for arrays nested thousands deep too."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise json.JSONDecodeError("it is nested too deeply", "", 0) from error
