"""The commands that make the cells of the protocol, and what is published to compare them with.

`start` and `tuning` come first, `experiment_1` to `experiment_4` are what the protocol calls by
these numbers, and experiment 5 is `authors`: their published settings, looked at. `plan` tells the
Snakefile what there is to run, `shards` makes a cell from parts that were trained apart, and
`repeated` compares cells that were made twice.
"""
