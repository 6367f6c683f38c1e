"""The demo in a browser: what a task shows in it. `hw_base.demo` is the program."""
