"""Models as graphs that run without this project: what a task adds, how a graph is made and verified."""
