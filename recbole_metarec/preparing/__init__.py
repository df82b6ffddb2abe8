"""From raw logs to ``NAME/NAME.inter``: public review sets and a user's own files, read in blocks and filtered."""
