"""The long experiments behind notebook 08: does chaos help?

CSBP is held against controls that decide, by a protocol that was fixed before its results were seen
(`PROTOCOL.md`, its numbers in `protocol.py`). A *task* is a data set and a network (`tasks.py`, of
`data.py` and `networks.py`), an *arm* a training method: what is added to the loss (`arms.py`). All
networks of an arm are trained in one vectorised run (`train.py`). Snakemake runs the cells
(`Snakefile`, which asks `plan.py` what there is to run):

1. `start.py` chooses how networks are initialised from the data, `tuning.py` learning rates,
   strengths and epochs;
2. `experiment_1.py` trains networks with one hidden layer by rules that differ in overshoot alone
   (`overshoot.py`, `flow.py`), `experiment_2.py` the arms from two starts under two schedules, and
   tests them under noise too (`robustness.py`), `experiment_3.py` the membrane form and its
   controls (`substeps.py`); `outcome.py` is what all of them record of a training, and `shards.py`
   makes a cell of experiment 2 from parts that were trained apart;
3. `experiment_4.py` trains a network of the authors' kind on Fashion-MNIST (`fashion_mnist.py`,
   `image_network.py`, `image_training.py`, `image_measurements.py`);
4. `findings.py` makes of all cells (`cells.py`) a table of contrasts with intervals and verdicts
   (`all_contrasts.py`, `contrasts.py`), of what else was measured (`measured.py`), and a page to
   read (`results_page.py`, `page_tables.py`);
5. `answers.py` puts the verdicts into sentences and `figures_of_findings.py` draws them, for
   notebook 08.

A new arm is one entry in the list at the end of `arms.py` and one in `ARMS` of `experiment_2.py`, a
new task one in `TASKS` of `tasks.py`: command lines and Snakefile follow.

`PROTOCOL.md` calls it the second study, after one that it has replaced, and is not changed by a
letter, since its digest stands in every cell.
"""
