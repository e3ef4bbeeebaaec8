"""How networks are trained, and what is measured of it.

`arms` are what is added to the loss, `train` trains many networks at once by one of them. Beside
CSBP go rules that follow its pull without overshoot: `overshoot` for the current, by the gradient
flow of a layer (`flow`), and `substeps` for the membrane. `outcome` is what a cell records of a
training, `surrogate_share` how much of a network is out of reach of the surrogate gradient, and
`robustness` the test under noise.
"""
