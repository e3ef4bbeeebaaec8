"""The long experiment behind notebook 08: does chaos help?

A cell of the study is a task (a data set and a network, `tasks.py`) trained by one training method,
an *arm* (what is added to the loss, and how its settings are found, `arms.py`). A cell is made in
four steps, all of them in `cell.py`:

1. the arm's candidates for learning rate and strength are trained on tuning seeds, and the best
   mean validation accuracy chooses the candidate and the number of epochs;
2. networks with new seeds are trained with that choice (`train.py`: all seeds in one vectorised
   run);
3. they are tested, once;
4. the largest Lyapunov exponent along their training is measured.

Snakemake runs the cells (`Snakefile`, which asks `plan.py` what there is to run), `collect.py`
merges them into `results.json`, `analysis.py` turns that into the rows of a table, with intervals
and corrected p values, and `verdicts.py` says what they mean for the claim.

What imports what::

    data.py ----+
                +-> tasks.py --+
    networks.py +              +-> train.py -> cell.py
                +-> arms.py ---+

A new arm is one entry in the list at the end of `arms.py`, a new task one in `TASKS` of `tasks.py`:
everything else, Snakefile and command line included, follows.
"""
