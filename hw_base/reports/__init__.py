"""A report of one or several runs: one page that opens without a network. `hw_base.report` is the program."""
