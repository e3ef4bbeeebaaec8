"""The experiments of the protocol: commands that make cells, and a module that makes none.

The commands: `start` and `tuning` come first, and `experiment_1` to `experiment_4` are what the
protocol calls by these numbers. `shards` makes a cell from parts that were trained apart, and
`repeated` compares cells that were made twice. `plan` tells the Snakefile which of all there are.

Experiment 5 trains nothing and so has no cells: `authors` holds the settings and logs that the
authors published, and what follows from them.
"""
