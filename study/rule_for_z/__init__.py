"""How to choose z: rules by the share of the gradient, tried on tuning networks.

`reports` is what the plug-in tells of a network, `on_a_task` tries the rule on a task of the study
and `on_images` on Fashion-MNIST; `comparison` is over all tasks. `measured`, `answers` and `figure`
are what notebook 07 shows of it. Nothing here enters a verdict.
"""
