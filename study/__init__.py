"""The long experiments behind notebook 08: does chaos help?

CSBP is held against controls that decide, by a protocol that was fixed before its results were seen
(`PROTOCOL.md`). A *task* is a data set and a network, an *arm* a training method: what is added to
the loss. All networks of an arm are trained in one vectorised run. A *cell* is what came out of
one, a JSON in `results/`; Snakemake makes those that are missing (`Snakefile`, `config.yaml`).

What all of it stands on lies here: `protocol`, the protocol's numbers; `contrasts`, its statistics;
`command`, what the command lines share. The rest is in rooms, each of which needs only those above
it, except that the last two need not each other:

1. `tasks`: data, networks, how they are initialised, and which are put together;
2. `training`: the arms, the training of many networks at once, the rules that differ from CSBP in
   overshoot alone, and what is measured of a training;
3. `fashion_mnist`: the same for a network of the authors' kind on images;
4. `experiments`: the commands that make cells. `start` chooses how networks are initialised from
   the data, `tuning` learning rates, strengths and epochs, `experiment_1` to `_4` train and test;
5. `findings`: makes of all cells a table of contrasts with intervals and verdicts
   (`contrasts.json`), a page to read (`RESULTS.md`), and sentences and figures for notebook 08;
6. `rule_for_z`: how to choose z, tried on tuning networks; `chaos`: exponents of a layer and of a
   training. Neither enters a verdict.

A new arm is one entry in the list at the end of `training/arms.py` and one in `ARMS` of
`experiments/experiment_2.py`, a new task one in `TASKS` of `tasks/tasks.py`: command lines and
Snakefile follow.

`PROTOCOL.md` calls it the second study, after one that it has replaced, and is not changed by a
letter, since its digest stands in every cell. So it names two files by where they were:
`study/tasks.py` is `tasks/tasks.py` now, and `study/layer_chaos.py` is `chaos/of_a_layer.py`.
"""
