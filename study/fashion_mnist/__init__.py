"""The network of the authors' kind on Fashion-MNIST, which experiment 4 trains.

`images` reads the data and splits it, `network` is the model, `training` trains it by BP and by
what an arm adds, and `measurements` is what a cell records, without noise and with it.
"""
