"""What is shown of results. A table's columns are listed once, for the terminal, Markdown, CSV and the page alike:

of a leaderboard in ``leaderboard.model_columns``, of ``ablate`` and ``sweep`` in ``study.arm_columns``.
"""
