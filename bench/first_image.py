from bench.measure import Row


def measure() -> list[Row]:
    return []
