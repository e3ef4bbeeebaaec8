"""The long experiments behind notebook 08: does chaos help?

**The first study.** A cell of it is a task (a data set and a network, `tasks.py`) trained by one
training method, an *arm* (what is added to the loss, and how its settings are found, `arms.py`). A
cell is made in four steps, all of them in `cell.py`:

1. the arm's candidates for learning rate and strength are trained on tuning seeds, and the best
   mean validation accuracy chooses the candidate and the number of epochs;
2. networks with new seeds are trained with that choice (`train.py`: all seeds in one vectorised
   run);
3. they are tested, once;
4. the largest Lyapunov exponent along their training is measured.

Snakemake runs the cells (`Snakefile`, which asks `plan.py` what there is to run of what
`config.yaml` asks for), `collect.py` merges them into `results.json`, `analysis.py` turns that into
the rows of a table, with intervals and corrected p values, and `verdicts.py` says what they mean
for the claim.

What imports what::

    data.py ----+
                +-> tasks.py --+
    networks.py +              +-> train.py -> cell.py
                +-> arms.py ---+

A new arm is one entry in the list at the end of `arms.py`, a new task one in `TASKS` of `tasks.py`:
everything else, Snakefile and command line included, follows.

**The second study** holds CSBP against controls that decide, by a protocol that was fixed before
its results were seen (`PROTOCOL.md`, its numbers in `protocol.py`). It uses the tasks, networks and
arms of the first and trains them by `train.py`, on other splits and seeds:

1. `start.py` chooses how networks are initialised from the data, `tuning.py` learning rates,
   strengths and epochs;
2. `experiment_1.py` trains networks with one hidden layer by rules that differ in overshoot alone
   (`overshoot.py`, `flow.py`), `experiment_2.py` the arms from two starts under two schedules, and
   tests them under noise too (`robustness.py`), `experiment_3.py` the membrane form and its
   controls (`substeps.py`); `outcome.py` is what all of them record of a training, and `shards.py`
   makes a cell of experiment 2 from parts that were trained apart;
3. `experiment_4.py` trains a network of the authors' kind on Fashion-MNIST (`fashion_mnist.py`,
   `image_network.py`, `image_training.py`, `image_measurements.py`);
4. `second_results.py` makes of all cells (`second_cells.py`) a table of contrasts with intervals
   and verdicts (`all_contrasts.py`, `contrasts.py`), of what else was measured (`measured.py`), and
   a page to read (`results_page.py`, `page_tables.py`).
"""
