"""How far apart two items of a history stand that are counted as a pair, apart from the counting."""

REACH = 10  # events: pairs that stand further apart are not counted
LAGS = ((1, 1), (2, 3), (4, REACH))  # smallest and largest distance of the second item behind the first
GROUPS = len(LAGS) + 1  # and one for a second item that stood up to REACH events before the first
