"""placeholder"""


def register(commands):  # type: ignore[no-untyped-def]
    pass
