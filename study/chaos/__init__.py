"""Is it chaos? Largest exponents of a layer by itself, and of whole trainings.

`of_a_layer` is for experiment 1 of the protocol, `of_training` says how chaotic training is anyway,
and where that comes from. What their cells hold is `measured`; from it come the sentences and
tables (`answers`) and the picture (`figure`) of notebook 08.
"""
