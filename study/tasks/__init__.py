"""What is trained: data sets, spiking networks, and the tasks that put them together.

`data` is always there or made, `networks` are layers of LIF neurons and a readout, `initialisation`
sets their start from the data; `tasks` has the list.
"""
