"""The colours of every figure: one meaning each, the same in the whole collection.

======================  =========================================================================
`BP`                    trained by back-propagation alone
`CSBP`                  trained by chaotic spiking back-propagation, on a layer's output
`CSBP_MEMBRANE`         the same, on a layer's membrane potential
`CONTROL`               a control: what lacks one part of what it is compared with
`CRITICAL`              the critical strength z_c, and all that is unstable above it
`REST`                  the rest: I0, h* and w*
`WINDOW`                a ground, not a line: the weights, or h, at which BP's gradient acts
`PUBLISHED`             what the paper or its code shows
`NEUTRAL`               a reference without a meaning of its own, as the line f(w) = w
======================  =========================================================================

Black is also the colour of text, of paths and of z, which belong to no method. The two published
pictures, `example1` and `example2`, keep the blue in which they were published.

They stay apart for the three common colour deficiencies, and `BP`, `CSBP` and `CONTROL` in grey as
well; `tests/test_palette.py` holds that. In grey the lines of `CRITICAL` are known by their dashes,
those of `REST` by their dots: `CRITICAL_LINE` and `REST_LINE`, keywords for `plot`, `axvline` and
`axhline`. All but `NEUTRAL` and `WINDOW` are dark enough for marks on white, 3 : 1.
"""

PUBLISHED = "#000000"
CSBP = "#033e8f"
REST = "#00655c"
CRITICAL = "#cf3540"
CSBP_MEMBRANE = "#3f74c8"
CONTROL = "#bb62ae"
BP = "#d67f14"
NEUTRAL = "#b0b0b0"
WINDOW = "#fbe3a8"

CRITICAL_LINE = {"color": CRITICAL, "linestyle": "--"}
REST_LINE = {"color": REST, "linestyle": ":"}
